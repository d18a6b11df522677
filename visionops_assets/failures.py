"""What a failing step says in the UI: one clear message, and no retry where trying again cannot help."""

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

from resources.lakefs_errors import LakeFSUnavailable
from resources.model_errors import RegistryUnavailable

# A short outage is bridged here; a longer one is the sensor's, which requests the run again.
RETRY = dg.RetryPolicy(max_retries=2, delay=1, backoff=dg.Backoff.EXPONENTIAL)


@contextmanager
def clear_failures() -> Iterator[None]:
    """Let a service that does not answer be tried again; turn everything else into a final, readable failure."""
    try:
        yield
    except (LakeFSUnavailable, RegistryUnavailable, dg.Failure):
        raise
    except Exception as error:
        raise dg.Failure(description=str(error) or type(error).__name__, allow_retries=False) from error

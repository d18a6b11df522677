"""What a failing step says in the UI: one clear message, and no retry where trying again cannot help."""

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

from resources.drop_errors import DropUnavailable
from resources.lakefs_errors import LakeFSUnavailable
from resources.model_errors import RegistryUnavailable
from resources.model_lock import PromotionLocked

MAX_RETRIES = 2
# A short outage is bridged here; a longer one is the sensor's, which requests the run again.
RETRY = dg.RetryPolicy(max_retries=MAX_RETRIES, delay=1, backoff=dg.Backoff.EXPONENTIAL)


@contextmanager
def clear_failures(step: dg.AssetExecutionContext | dg.OpExecutionContext | None = None) -> Iterator[None]:
    """Turn any error into a final failure that says what the error says.

    For a `step` under `RETRY`, a service that does not answer is tried again while attempts are left.
    """
    try:
        yield
    except dg.Failure:
        raise
    except (DropUnavailable, LakeFSUnavailable, RegistryUnavailable, PromotionLocked) as error:
        if step is not None and step.retry_number < MAX_RETRIES:
            raise
        raise dg.Failure(description=str(error), allow_retries=False) from error
    except Exception as error:
        raise dg.Failure(description=str(error) or type(error).__name__, allow_retries=False) from error

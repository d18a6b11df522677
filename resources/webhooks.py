"""Where people are told what happened: a webhook for errors and a quieter one for verdicts; Slack's will do.

The addresses are secrets: they are in no message, no error and no log.
"""

import logging
from collections.abc import Mapping
from typing import Any, Literal, get_args

from pydantic import BaseModel

Channel = Literal["errors", "verdicts"]
VARIABLES: Mapping[Channel, str] = {
    "errors": "VISIONOPS_ERROR_WEBHOOK",
    "verdicts": "VISIONOPS_VERDICT_WEBHOOK",
}


class Webhooks(BaseModel, frozen=True, extra="forbid"):
    """Addresses that take a POST of JSON, as Slack's incoming webhooks do; with none, nobody is told."""

    errors_url: str | None = None
    verdicts_url: str | None = None
    timeout_seconds: float = 5.0

    def configured(self, channel: Channel) -> bool:
        """Whether anybody is told of what goes to this channel."""
        return bool(self._address(channel))

    @property
    def any_configured(self) -> bool:
        """Whether anybody is told of anything."""
        return any(self.configured(channel) for channel in get_args(Channel))

    def post(self, channel: Channel, message: Mapping[str, Any]) -> str | None:
        """Send a message once. None where it was taken, else why it was not, in words without the address."""
        import httpx

        # It writes the address of every request, secret and all.
        for name in ("httpx", "httpcore"):
            logging.getLogger(name).setLevel(logging.WARNING)
        address = self._address(channel)
        if not address:
            return f"{VARIABLES[channel]} is not set"
        try:
            answer = httpx.post(address, json=dict(message), timeout=self.timeout_seconds)
        except httpx.TimeoutException:
            return f"the webhook for {channel} did not answer within {self.timeout_seconds:g} s"
        except httpx.UnsupportedProtocol:
            return f"{VARIABLES[channel]} is no http or https address"
        # Their messages may hold the address.
        except httpx.InvalidURL:
            return f"{VARIABLES[channel]} is no address"
        except httpx.HTTPError as error:
            return f"the webhook for {channel} cannot be reached ({type(error).__name__})"
        return None if answer.is_success else f"the webhook for {channel} answered {answer.status_code}"

    def _address(self, channel: Channel) -> str | None:
        return self.errors_url if channel == "errors" else self.verdicts_url

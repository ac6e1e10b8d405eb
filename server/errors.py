"""Every error that a client may be answered with, one class a case. Knows no aiohttp.

`detail` is a sentence for people and safe to send: no host names, no driver texts, no values of people.
Sources: RFC 7644 section 3.12, SCIM Protocol 1.1 section 3.9.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Sequence


class ScimError(Exception):
    """Base of every error of the request side: status, scimType, detail and headers of the answer."""

    status: ClassVar[int] = 500
    scim_type: ClassVar[str] = ""

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail

    @property
    def headers(self) -> dict[str, str]:
        """Return the headers that belong to this error."""
        return {}


class InvalidValueError(ScimError):
    """A parameter has a value that it cannot have."""

    status = 400
    scim_type = "invalidValue"


class InvalidSyntaxError(ScimError):
    """The request is no proper HTTP or SCIM request."""

    status = 400
    scim_type = "invalidSyntax"


class InvalidFilterError(ScimError):
    """The filter cannot be understood or is not supported."""

    status = 400
    scim_type = "invalidFilter"


class InvalidPathError(ScimError):
    """The attribute to sort by is unknown, or has no value of its own."""

    status = 400
    scim_type = "invalidPath"


class InvalidCursorError(ScimError):
    """The cursor was not given by this server, or for another query (RFC 9865 section 2.1)."""

    status = 400
    scim_type = "invalidCursor"

    def __init__(self) -> None:
        super().__init__(
            "The cursor does not belong to this query. Repeat all parameters of the first page, "
            "or begin again with an empty cursor."
        )


class ExpiredCursorError(ScimError):
    """The generation that the cursor names is no longer there (RFC 9865 section 2.1)."""

    status = 400
    scim_type = "expiredCursor"

    def __init__(self) -> None:
        super().__init__("The snapshot of this cursor is no longer kept. Begin the list again with an empty cursor.")


class InvalidCountError(ScimError):
    """The count of a list with cursors is not a positive integer (RFC 9865 section 2.1)."""

    status = 400
    scim_type = "invalidCount"


class UnauthorizedError(ScimError):
    """No credential, or a wrong one. Says the same for every reason."""

    status = 401

    def __init__(self, challenges: Sequence[str]) -> None:
        super().__init__("The credentials are missing or wrong.")
        self.challenges = tuple(challenges)

    @property
    def headers(self) -> dict[str, str]:
        """Return the challenges (RFC 9110 section 11.6.1), which a 401 must carry."""
        return {"WWW-Authenticate": ", ".join(self.challenges)}


class ForbiddenError(ScimError):
    """The request is understood and refused."""

    status = 403


class NotFoundError(ScimError):
    """No such resource or path."""

    status = 404


class MethodNotAllowedError(ScimError):
    """The path exists, but not for this method."""

    status = 405

    def __init__(self, detail: str, *, allow: Sequence[str]) -> None:
        super().__init__(detail)
        self.allow = tuple(allow)

    @property
    def headers(self) -> dict[str, str]:
        """Return the methods that are allowed (RFC 9110 section 10.2.1)."""
        return {"Allow": ", ".join(self.allow)}


class BodyTimeoutError(ScimError):
    """The body was announced and did not arrive."""

    status = 408


class ConflictError(ScimError):
    """The request does not fit what is there now."""

    status = 409


class PreconditionFailedError(ScimError):
    """The resource is not in the version that If-Match names (RFC 7644 section 3.14)."""

    status = 412

    def __init__(self) -> None:
        super().__init__("The resource is not in the version that If-Match names.")


class BodyTooLargeError(ScimError):
    """The request body is larger than anything this server reads."""

    status = 413


class EncodedBodyError(ScimError):
    """The body is compressed; none is unpacked here (RFC 9110 section 15.5.16)."""

    status = 415

    def __init__(self) -> None:
        super().__init__("A body with a Content-Encoding is not read here. Send it as it is.")

    @property
    def headers(self) -> dict[str, str]:
        """Return which encodings are understood: none."""
        return {"Accept-Encoding": "identity"}


class UriTooLongError(ScimError):
    """The request target is longer than this server reads."""

    status = 414


class HeadersTooLargeError(ScimError):
    """The header fields together are larger than this server reads (RFC 6585 section 5)."""

    status = 431


class InternalError(ScimError):
    """Something unexpected; the log has the details under the request id."""

    def __init__(self, request_id: str) -> None:
        super().__init__(f"An unexpected error occurred. The log has it under request id {request_id}.")


class UnsupportedError(ScimError):
    """SCIM defines this operation; this server does not offer it."""

    status = 501


class RetryableError(ScimError):
    """Base of errors that go away; the client is told when to ask again."""

    def __init__(self, detail: str, *, retry_after_seconds: int) -> None:
        super().__init__(detail)
        self.retry_after_seconds = retry_after_seconds

    @property
    def headers(self) -> dict[str, str]:
        """Return when to ask again (RFC 9110 section 10.2.3)."""
        return {"Retry-After": str(self.retry_after_seconds)}


class TooManyRequestsError(RetryableError):
    """Too many credentials wait to be checked."""

    status = 429


class NotReadyError(RetryableError):
    """No snapshot is served yet, so no list can be answered; never an empty one."""

    status = 503


class UnreadableError(RetryableError):
    """A file of the snapshot being served was damaged after it had been opened."""

    status = 503

    def __init__(self) -> None:
        super().__init__("The snapshot cannot be read. The log of the server names the cause.", retry_after_seconds=10)


class RestartListError(RetryableError):
    """The pages before this one may have come from another generation; the list has to begin again."""

    status = 503

    def __init__(self) -> None:
        super().__init__(
            "Earlier pages may have come from an older snapshot. Begin the list again at startIndex=1.",
            retry_after_seconds=1,
        )


class StatusError(ScimError):
    """An error that the HTTP library raised, with its status and a text of ours."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status  # type: ignore[misc]  # the one class whose instances differ

"""The manners of every JSON view: problems, strict bodies, `405` before `401`, no content negotiation."""

from __future__ import annotations

from typing import Any, ClassVar

from django.core.exceptions import PermissionDenied, RequestDataTooBig
from django.http import Http404, HttpRequest, HttpResponse
from rest_framework import exceptions
from rest_framework.request import Request
from rest_framework.views import APIView

from monolith.config.body import parse_object
from monolith.config.ownership import require_owner
from monolith.config.problem import Answer, Problem, encode
from strangler_proxy.contrib.django.arrival import NotArrived

SAFE = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})


class ApiView(APIView):
    """A JSON view. Methods return an `Answer`, raise `Problem`, or both; `public` ones need no token.

    `flag` is the capability that the path belongs to: an unsafe request to it is refused only by its owner.
    """

    public: ClassVar[bool] = False
    flag: ClassVar[str] = ""
    http_method_names = ["get", "head", "post", "put", "patch", "delete", "trace"]

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """A method that the path does not have is refused before the token is looked at."""
        name = (request.method or "").lower()
        if name not in self.http_method_names or not hasattr(self, name):
            return respond(method_not_allowed(request.method or "", self.taken()))
        response: HttpResponse = super().dispatch(request, *args, **kwargs)
        return response

    def perform_authentication(self, request: Request) -> None:
        """Every path but the public ones needs a valid token."""
        if not self.public and not request.user:
            raise Problem("not_authenticated")

    def handle_exception(self, exc: Exception) -> Answer:
        """A `Problem` becomes its answer; a bug stays an exception, which the log gets whole."""
        if self.flag and self.request.method not in SAFE and isinstance(exc, Problem | NotArrived):
            require_owner(self.flag)
        answer = answer_to(exc)
        if answer is None:
            raise exc
        return answer

    def finalize_response(self, request: Request, response: Any, *args: Any, **kwargs: Any) -> HttpResponse:
        """Methods return values; this makes them an HTTP answer."""
        return respond(response) if isinstance(response, Answer) else response

    @classmethod
    def taken(cls) -> list[str]:
        """The methods of this path, as `Allow` lists them."""
        names = {name.upper() for name in cls.http_method_names if hasattr(cls, name)}
        return sorted(names | {"HEAD"} if "GET" in names else names)


def respond(answer: Answer) -> HttpResponse:
    """An `Answer` as Django sends it."""
    response = HttpResponse(
        answer.text, status=answer.status, headers=dict(answer.headers), content_type=answer.content_type
    )
    if answer.status == 204:
        del response.headers["Content-Type"]
    return response


def ok(value: Any, status: int = 200, **headers: str) -> Answer:
    """A JSON answer; header names are given with underscores."""
    return Answer(
        status=status, text=encode(value), headers={name.replace("_", "-"): text for name, text in headers.items()}
    )


NO_CONTENT = Answer(status=204, text="")


def raw_body(request: Request) -> bytes:
    """The bytes of the body; `body_too_large` where it has more than the shop takes."""
    try:
        return request._request.body
    except RequestDataTooBig as error:
        raise Problem("body_too_large") from error


def read_object(request: Request) -> dict[str, Any]:
    """The JSON object that was sent, or a `Problem`."""
    return parse_object(raw_body(request), request._request.headers.get("Content-Type", ""))


def method_not_allowed(method: str, taken: list[str]) -> Answer:
    """405 with `Allow`."""
    return Problem("method_not_allowed", method=method, headers={"Allow": ", ".join(taken)}).answer()


def answer_to(error: Exception) -> Answer | None:
    """The answer that an exception stands for; None where it is a failure of the shop itself."""
    if isinstance(error, Problem):
        return error.answer()
    if isinstance(error, Http404 | exceptions.NotFound):
        return Problem("not_found").answer()
    if isinstance(error, PermissionDenied | exceptions.PermissionDenied):
        return Problem("forbidden").answer()
    if isinstance(error, exceptions.APIException):
        return Problem("bad_request").answer()
    return None

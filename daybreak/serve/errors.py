"""Errors as OpenAI's API words them: {"error": {"message", "type", "param", "code"}}."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    408: "timeout_error",
    413: "invalid_request_error",
    429: "rate_limit_error",
    503: "unavailable_error",
    504: "timeout_error",
}
CODES = {
    "extra_forbidden": "unknown_parameter",
    "missing": "missing_required_parameter",
    "string_too_long": "string_above_max_length",
}
"""OpenAI's codes by pydantic's; for all other faults of a value: invalid_value."""


class ApiError(Exception):
    """A request that gets no picture: an HTTP status, a message for the client, and the field it is about."""

    def __init__(
        self,
        status: int,
        message: str,
        param: str | None = None,
        code: str | None = None,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.param, self.code = status, message, param, code
        self.headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
        if status == 401:
            self.headers["WWW-Authenticate"] = "Bearer"

    def body(self) -> dict[str, Any]:
        """What the client reads."""
        kind = TYPES.get(self.status, "server_error")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}

    def response(self) -> JSONResponse:
        """The answer."""
        return JSONResponse(self.body(), self.status, headers=self.headers)


def install(app: FastAPI) -> None:
    """Makes every error of `app` look alike."""

    @app.exception_handler(ApiError)
    async def on_api_error(_request: Request, error: ApiError) -> JSONResponse:
        return error.response()

    @app.exception_handler(HTTPException)
    async def on_http_error(_request: Request, error: HTTPException) -> JSONResponse:
        response = ApiError(error.status_code, error.detail).response()
        response.headers.update(error.headers or {})
        return response

    @app.exception_handler(RequestValidationError)
    async def on_wrong_body(_request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]  # its "input" is left out: it may be long, or a number that JSON does not have
        field = ".".join(str(part) for part in first["loc"] if part not in ("body", "query", "path")) or None
        message = first["msg"].removeprefix("Value error, ")
        code = CODES.get(first["type"], "invalid_value")
        return ApiError(400, f"{field}: {message}" if field else message, param=field, code=code).response()

    @app.exception_handler(Exception)
    async def on_fault(_request: Request, _error: Exception) -> JSONResponse:
        return ApiError(500, "the server failed; its log says why").response()

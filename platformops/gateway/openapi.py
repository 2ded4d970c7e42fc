"""The interface in OpenAPI 3.1, made from the route table, and one self-contained page that shows it.

It names no system: who may call is told which one.
"""

from __future__ import annotations

import html
import json
from functools import cache

from platformops import __version__
from platformops.gateway.feedback import MOST_LABEL_CHARS, ONE_LINE, REQUEST_ID
from platformops.gateway.routes import OPEN, ROUTES, GatewayRoute

PAGE_POLICY = b"default-src 'none'; style-src 'unsafe-inline'"
JsonValue = object

_ERROR = {"$ref": "#/components/schemas/Error"}
_REFUSALS = {
    "400": "The request is malformed.",
    "401": "No valid key.",
    "403": "The key does not allow this.",
    "404": "No such route, system or revision.",
    "405": "The route does not take this method.",
    "408": "The request came too slowly.",
    "409": "The Idempotency-Key came with another body before, or the request was labelled otherwise before.",
    "413": "The body, the number of images or an image is too large.",
    "414": "The URL is too long.",
    "415": "The media type or encoding is not understood.",
    "422": "The body is well-formed, but an image in it cannot be used; `field` says which.",
    "429": "The key asks more often than it may; wait as Retry-After says.",
    "431": "The headers are too large or too many.",
    "500": "The service failed on this request.",
    "503": "Overloaded or not ready; wait as Retry-After says.",
    "504": "No answer within the deadline of the system.",
}
_IDEMPOTENCY = (
    "The same key with the same images within ten minutes gets the first answer again, marked by the header "
    "Idempotency-Replayed; with others it is refused (409). A gateway that was restarted has forgotten it."
)
_BASE64 = {
    "type": "string",
    "contentEncoding": "base64",
    "minLength": 4,
    "pattern": "^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$",
}
_FILE = {"type": "string", "format": "binary", "minLength": 1}
_BINARY = {"schema": _FILE}
_PREDICT_BODY = {
    "required": True,
    "content": {
        "image/jpeg": _BINARY,
        "image/png": _BINARY,
        "image/webp": _BINARY,
        "application/octet-stream": _BINARY,
        "application/json": {"schema": {"$ref": "#/components/schemas/Images"}},
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "description": "Each part is an image, whatever its name.",
                "properties": {"images": {"type": "array", "items": _FILE, "minItems": 1}},
                "required": ["images"],
                "additionalProperties": _FILE,
            }
        },
    },
}
_FEEDBACK_BODY = {
    "required": True,
    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Feedback"}}},
}
_SCHEMAS: dict[str, JsonValue] = {
    "Feedback": {
        "type": "object",
        "required": ["request_id", "label"],
        "properties": {
            "request_id": {"type": "string", "pattern": f"^{REQUEST_ID}$"},
            "label": {"type": "string", "maxLength": MOST_LABEL_CHARS, "pattern": f"^{ONE_LINE}$"},
        },
        "additionalProperties": False,
    },
    "Taken": {
        "type": "object",
        "required": ["request_id", "status"],
        "properties": {"request_id": {"type": "string"}, "status": {"enum": ["recorded", "repeated"]}},
    },
    "Images": {
        "oneOf": [
            {
                "type": "object",
                "properties": {"image": _BASE64},
                "required": ["image"],
                "additionalProperties": False,
            },
            {
                "type": "object",
                "properties": {"images": {"type": "array", "items": _BASE64, "minItems": 1}},
                "required": ["images"],
                "additionalProperties": False,
            },
        ]
    },
    "Predictions": {
        "type": "object",
        "required": ["request_id", "model_version", "revision", "predictions"],
        "properties": {
            "request_id": {"type": "string"},
            "model_version": {"type": "string"},
            "revision": {"type": "string"},
            "predictions": {
                "type": "array",
                "minItems": 1,
                "items": {
                    "type": "object",
                    "required": ["label", "probability", "probabilities"],
                    "properties": {
                        "label": {"type": "string"},
                        "probability": {"type": "number", "minimum": 0, "maximum": 1},
                        "probabilities": {"type": "object", "additionalProperties": {"type": "number"}},
                    },
                },
            },
        },
    },
    "Info": {
        "type": "object",
        "required": ["system", "revision", "model_version", "weights", "classes", "limits"],
        "properties": {
            "system": {"type": "string"},
            "revision": {"type": ["string", "null"]},
            "model_version": {"type": ["string", "null"]},
            "weights": {"type": "object", "additionalProperties": {"type": "number"}},
            "classes": {"type": "array", "items": {"type": "string"}},
            "limits": {"type": "object", "additionalProperties": {"type": "number"}},
        },
    },
    "Probe": {
        "type": "object",
        "required": ["status"],
        "properties": {
            "status": {"enum": ["ok", "started", "ready"]},
            "replicas": {"type": "object", "additionalProperties": {"type": "integer", "minimum": 1}},
        },
    },
    "Error": {
        "type": "object",
        "required": ["error"],
        "properties": {
            "error": {
                "type": "object",
                "required": ["code", "message", "request_id"],
                "properties": {
                    "code": {"type": "string", "description": "Stable and machine-readable."},
                    "message": {"type": "string"},
                    "request_id": {"type": "string"},
                    "field": {"type": "string", "description": "Where in the request, for example `images[3]`."},
                },
            }
        },
    },
}
_SUMMARIES = {
    "healthz": "Liveness: whether the gateway answers at all; restart it when it does not.",
    "startupz": "Startup: whether systems and keys have been read; 503 until then.",
    "readyz": "Readiness: whether requests should be sent here; 503 while it starts or is about to stop.",
    "openapi": "This description.",
    "docs": "This description as a page.",
    "metrics": "Metrics in the Prometheus text format.",
    "ready": "Whether every revision of a system that gets traffic has a replica that takes calls; 503 if not.",
    "info": "Revision, traffic weights, classes and limits of a system.",
    "predict": "Predict one image or many; one prediction an image, in order.",
    "feedback": "Say what the right label of a prediction was. Some predictions are kept for it, and not for ever.",
}
_PROBED = {"application/json": {"schema": {"$ref": "#/components/schemas/Probe"}}}
_OK: dict[str, JsonValue] = {
    "predict": {"application/json": {"schema": {"$ref": "#/components/schemas/Predictions"}}},
    "feedback": {"application/json": {"schema": {"$ref": "#/components/schemas/Taken"}}},
    "info": {"application/json": {"schema": {"$ref": "#/components/schemas/Info"}}},
    "healthz": _PROBED,
    "startupz": _PROBED,
    "readyz": _PROBED,
    "ready": _PROBED,
    "openapi": {"application/json": {"schema": {"type": "object"}}},
    "docs": {"text/html": {"schema": {"type": "string"}}},
    "metrics": {"text/plain": {"schema": {"type": "string"}}},
}


def document() -> dict[str, JsonValue]:
    """The OpenAPI document of every route in the table."""
    paths: dict[str, dict[str, JsonValue]] = {}
    for route in ROUTES:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {"title": "PlatformOps gateway", "version": __version__},
        "paths": paths,
        "components": {
            "schemas": _SCHEMAS,
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(route: GatewayRoute) -> dict[str, JsonValue]:
    responses: dict[str, JsonValue] = {
        "200": {"description": "The answer.", "content": _OK[route.handler]},
        **{
            status: {"description": text, "content": {"application/json": {"schema": _ERROR}}}
            for status, text in _REFUSALS.items()
        },
    }
    operation: dict[str, JsonValue] = {
        "operationId": route.handler,
        "summary": _SUMMARIES[route.handler],
        "responses": responses,
        "security": [] if route.scope is OPEN else [{"key": []}],
        "parameters": _parameters(route),
    }
    if route.handler == "predict":
        operation["requestBody"] = _PREDICT_BODY
    if route.handler == "feedback":
        operation["requestBody"] = _FEEDBACK_BODY
    return operation


def _parameters(route: GatewayRoute) -> list[JsonValue]:
    parameters: list[JsonValue] = []
    if "{system}" in route.path:
        schema = {"type": "string", "pattern": "^[a-z0-9][a-z0-9._-]{0,62}$"}
        parameters.append({"name": "system", "in": "path", "required": True, "schema": schema})
    if route.handler == "predict":
        parameters.append(_request_header("X-Request-Key", "Equal keys go to the same revision.", maxLength=256))
        parameters.append(_request_header("X-PlatformOps-Revision", "A revision by name; needs the scope operate."))
        parameters.append(_request_header("Idempotency-Key", _IDEMPOTENCY, pattern="^[!-~]{1,255}$"))
    return parameters


def _request_header(name: str, description: str, **limits: JsonValue) -> dict[str, JsonValue]:
    schema = {"type": "string", **limits}
    return {"name": name, "in": "header", "required": False, "description": description, "schema": schema}


@cache
def document_json() -> bytes:
    return json.dumps(document()).encode("ascii")


@cache
def page() -> bytes:
    """The description as HTML that loads nothing from anywhere."""
    sections = "\n".join(_section(route) for route in ROUTES)
    rows = "\n".join(f"<tr><td>{status}</td><td>{html.escape(text)}</td></tr>" for status, text in _REFUSALS.items())
    schemas = html.escape(json.dumps(_SCHEMAS, indent=2))
    return _PAGE.format(sections=sections, rows=rows, schemas=schemas).encode()


def _section(route: GatewayRoute) -> str:
    access = "open" if route.scope is OPEN else f"key with scope <code>{route.scope}</code>"
    return (
        f"<h2><code>{route.method} {html.escape(route.path)}</code></h2>"
        f"<p>{html.escape(_SUMMARIES[route.handler])} ({access})</p>"
    )


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>PlatformOps gateway</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 52rem; margin: 2rem auto; padding: 0 1rem; }}
code, pre {{ background: #f2f2f2; padding: .1em .3em; overflow-x: auto; }}
td {{ padding: .1rem 1rem .1rem 0; vertical-align: top; }}
</style></head><body>
<h1>PlatformOps gateway</h1>
<p>Keys travel in the header <code>Authorization: Bearer KEY</code>.</p>
<pre>curl -H "Authorization: Bearer $KEY" -H "Content-Type: image/png" \\
     --data-binary @image.png http://HOST/SYSTEM/predict</pre>
{sections}
<h2>Refusals</h2>
<table>{rows}</table>
<h2>Schemas</h2>
<pre>{schemas}</pre>
</body></html>
"""

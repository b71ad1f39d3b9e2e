"""The OpenAPI document says what the edge does: shapes, limits, doors, refusals, who may call."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from generation import node, openapi
from generation.protoc import NODE, run
from tests.generation.planting import ROOT, compiled

PLANTED = """
// Keeps things.
service ThingService {
  // Gets one thing. Cheap to call.
  //
  // Emits [ThingSeen][].
  //
  // Errors:
  //   NOT_FOUND THING_NOT_FOUND
  //   ABORTED THING_BUSY
  rpc GetThing(GetThingRequest) returns (Thing) {
    option idempotency_level = NO_SIDE_EFFECTS;
    option (weft.options.v1.access) = {public: true};
    option (google.api.http) = {
      get: "/v1/things/{thing_id}"
      additional_bindings: {get: "/v1/old-things/{thing_id}"}
    };
  }
  rpc UpdateThing(UpdateThingRequest) returns (Thing) {
    option (weft.options.v1.access) = {permission: "things.write" own_field: "thing_id" fresh: {seconds: 60}};
    option (google.api.http) = {post: "/v1/things/{thing_id}:update" body: "*"};
    option deprecated = true;
    option (weft.options.v1.edge) = {sunset: "2027-01-31"};
  }
  rpc WatchThings(GetThingRequest) returns (stream Thing) {
    option (weft.options.v1.access) = {signed_in: true};
    option (google.api.http) = {get: "/v1/things:watch"};
  }
  rpc GetPage(GetThingRequest) returns (google.api.HttpBody) {
    option (weft.options.v1.access) = {public: true};
    option (google.api.http) = {get: "/v1/page"};
  }
  rpc InPerson(GetThingRequest) returns (Thing) {
    option (weft.options.v1.access) = {signed_in: true in_person: true};
    option (google.api.http) = {get: "/v1/in-person"};
  }
  rpc Inside(GetThingRequest) returns (Thing) {
    option (weft.options.v1.access) = {internal: true callers: "*"};
  }
}
message GetThingRequest {
  string thing_id = 1 [(buf.validate.field).string.uuid = true];
  int32 page_size = 2 [(buf.validate.field).int32 = {gte: 0 lte: 200}];
  Kind kind = 3;
  google.protobuf.Timestamp before = 4;
  Thing nested = 5;
}
message UpdateThingRequest { string thing_id = 1; Thing thing = 2 [(buf.validate.field).required = true]; }
// A thing.
message Thing {
  // What it is called.
  string display_name = 1 [
    (buf.validate.field).string = {min_len: 1 max_len: 9 pattern: "^[a-z]+$"},
    (weft.options.v1.personal) = true
  ];
  int64 size = 2 [(buf.validate.field).int64.gte = 0];
  repeated string tags = 3 [(buf.validate.field).repeated = {
    min_items: 1 max_items: 5 unique: true items: {string: {max_len: 7}}
  }];
  map<string, int32> counts = 4 [(buf.validate.field).map = {
    max_pairs: 3 keys: {string: {max_len: 2}} values: {int32: {gt: 0 lt: 8}}
  }];
  Kind kind = 5 [(buf.validate.field).enum = {not_in: [0]}];
  bytes content = 6;
  string code = 7 [(weft.options.v1.secret) = true, deprecated = true];
  google.protobuf.Duration wait = 8 [(buf.validate.field).duration = {lte: {seconds: 5}}];
  google.protobuf.FieldMask mask = 9;
  string size_name = 10 [(buf.validate.field).string = {in: ["small", "large"]}];
  oneof way { option (buf.validate.oneof).required = true; string road = 11; string rail = 12; }
  optional Thing inner = 13;
}
// What kind it is.
enum Kind {
  KIND_UNSPECIFIED = 0;
  // Not hard.
  KIND_SOFT = 1;
}
"""


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return openapi.document(compiled(tmp_path_factory.mktemp("planted"), PLANTED))


@pytest.fixture
def thing(document: dict[str, Any]) -> dict[str, Any]:
    schema: dict[str, Any] = document["components"]["schemas"]["weft.planted.v1.Thing"]
    return schema


def test_our_document_is_valid_openapi_3_1(made: Path, tmp_path: Path) -> None:
    document = json.loads((made / "openapi" / "weft.json").read_text())
    assert document["openapi"] == "3.1.0"
    assert _valid(document, tmp_path)


def test_the_validator_refuses_a_broken_document(document: dict[str, Any], tmp_path: Path) -> None:
    assert _valid(document, tmp_path)
    broken = copy.deepcopy(document)
    broken["paths"]["/v1/page"]["get"]["parameters"][0]["in"] = "nowhere"
    assert not _valid(broken, tmp_path)


def test_every_reference_leads_somewhere(made: Path) -> None:
    document = json.loads((made / "openapi" / "weft.json").read_text())
    references = set(_references(document))
    assert len(references) > 100
    for reference in references:
        found = document
        for part in reference.removeprefix("#/").split("/"):
            found = found[part]


def test_a_summary_a_description_and_refusals_come_from_the_comment(document: dict[str, Any]) -> None:
    operation = document["paths"]["/v1/things/{thingId}"]["get"]
    assert operation["summary"] == "Gets one thing"
    assert operation["description"] == "Cheap to call.\n\nEmits `ThingSeen`.\n\nOpen to anyone."
    described = {status: answer.get("description", "") for status, answer in operation["responses"].items()}
    assert described["404"] == "- NOT_FOUND `THING_NOT_FOUND`"
    assert described["409"] == "- ABORTED `THING_BUSY`"
    assert document["tags"] == [{"name": "weft.planted.v1.ThingService", "description": "Keeps things."}]


def test_who_may_call_decides_security_and_refusals(document: dict[str, Any]) -> None:
    paths = document["paths"]
    assert document["security"] == [{"bearer": []}, {"apiKey": []}]
    assert paths["/v1/things/{thingId}"]["get"]["security"] == []
    assert paths["/v1/in-person"]["get"]["security"] == [{"bearer": []}], "a machine is no person"
    update = paths["/v1/things/{thingId}:update"]["post"]
    assert "security" not in update
    assert "permission `things.write`, or for callers whose own id is `thingId`" in update["description"]
    assert "STEP_UP_REQUIRED" in update["responses"]["401"]["description"]
    assert "NOT_PERMITTED" in update["responses"]["403"]["description"]


def test_a_deprecated_method_says_when_it_ends(document: dict[str, Any]) -> None:
    update = document["paths"]["/v1/things/{thingId}:update"]["post"]
    assert update["deprecated"] is True
    assert "May be gone after 2027-01-31." in update["description"]


def test_internal_methods_have_no_door(document: dict[str, Any]) -> None:
    assert "Inside" not in json.dumps(document["paths"])


def test_every_binding_is_an_operation_of_its_own(document: dict[str, Any]) -> None:
    ids = [operation["operationId"] for path in document["paths"].values() for operation in path.values()]
    assert len(set(ids)) == len(ids) == 6
    assert "/v1/old-things/{thingId}" in document["paths"]


def test_path_and_query_hold_the_fields_of_a_get(document: dict[str, Any]) -> None:
    parameters = document["paths"]["/v1/things/{thingId}"]["get"]["parameters"]
    assert parameters[0] == {
        "name": "thingId",
        "in": "path",
        "schema": {"type": "string", "format": "uuid"},
        "required": True,
    }
    query = {parameter["name"]: parameter for parameter in parameters[1:]}
    assert query["pageSize"]["schema"] | {"minimum": 0, "maximum": 200} == query["pageSize"]["schema"]
    assert query["kind"]["schema"] == {"$ref": "#/components/schemas/weft.planted.v1.Kind"}
    assert query["before"]["schema"] == {"type": "string", "format": "date-time"}
    assert "nested.displayName" in query
    assert "counts" not in json.dumps(sorted(query)), "a query cannot hold a map"


def test_the_body_lacks_what_the_path_holds(document: dict[str, Any]) -> None:
    content = document["paths"]["/v1/things/{thingId}:update"]["post"]["requestBody"]["content"]
    schema = content["application/json"]["schema"]
    assert list(schema["properties"]) == ["thing"]
    assert schema["required"] == ["thing"]


def test_only_a_method_that_may_not_repeat_takes_an_idempotency_key(document: dict[str, Any]) -> None:
    key = {"$ref": "#/components/parameters/IdempotencyKey"}
    assert key in document["paths"]["/v1/things/{thingId}:update"]["post"]["parameters"]
    assert key not in document["paths"]["/v1/things/{thingId}"]["get"]["parameters"]


def test_a_stream_is_ndjson_or_events(document: dict[str, Any]) -> None:
    answer = document["paths"]["/v1/things:watch"]["get"]["responses"]["200"]
    assert set(answer["content"]) == {"application/x-ndjson", "text/event-stream"}


def test_raw_content_has_its_own_media_type(document: dict[str, Any]) -> None:
    assert document["paths"]["/v1/page"]["get"]["responses"]["200"]["content"] == {"*/*": {}}


def test_rules_become_keywords(thing: dict[str, Any]) -> None:
    properties = thing["properties"]
    assert properties["displayName"] == {
        "type": "string",
        "minLength": 1,
        "maxLength": 9,
        "pattern": "^[a-z]+$",
        "description": "What it is called.",
        "x-personal": True,
    }
    assert properties["tags"] == {
        "type": "array",
        "items": {"type": "string", "maxLength": 7},
        "minItems": 1,
        "maxItems": 5,
        "uniqueItems": True,
    }
    limits = {"exclusiveMinimum": 0, "exclusiveMaximum": 8}
    assert properties["counts"] == {
        "type": "object",
        "additionalProperties": {"type": "integer", "format": "int32"} | limits,
        "propertyNames": {"maxLength": 2},
        "maxProperties": 3,
    }
    assert properties["sizeName"] == {"type": "string", "enum": ["small", "large"]}
    assert properties["kind"]["not"] == {"enum": ["KIND_UNSPECIFIED"]}


def test_what_json_has_no_keyword_for_is_a_sentence(thing: dict[str, Any]) -> None:
    assert thing["properties"]["size"]["type"] == "string"
    assert thing["properties"]["size"]["description"] == "At least 0."
    assert thing["properties"]["wait"]["description"] == "At most 5s."
    assert thing["description"] == "A thing.\n\nExactly one of `road`, `rail`."


def test_required_is_what_validation_would_miss(thing: dict[str, Any]) -> None:
    assert thing["required"] == ["displayName", "tags", "kind", "sizeName"]


def test_secrets_and_deprecated_fields_are_marked(thing: dict[str, Any]) -> None:
    code = {"type": "string", "deprecated": True, "x-secret": True, "format": "password"}
    assert thing["properties"]["code"] == code


def test_enums_are_their_names_with_what_each_means(document: dict[str, Any]) -> None:
    kind = document["components"]["schemas"]["weft.planted.v1.Kind"]
    assert kind["enum"] == ["KIND_UNSPECIFIED", "KIND_SOFT"]
    assert kind["description"] == "What kind it is.\n\n- `KIND_SOFT`: Not hard."


def _valid(document: dict[str, Any], folder: Path) -> bool:
    check = node.modules(ROOT / "web") / ".bin" / "validate-api"
    path = folder / "document.json"
    path.write_text(json.dumps(document))
    said = run(["sh", "-c", f'"{NODE}" "{check}" "{path}" || true'], folder)
    return bool(json.loads(said)["valid"])


def _references(value: Any) -> list[str]:
    if isinstance(value, list):
        return [found for each in value for found in _references(each)]
    if not isinstance(value, dict):
        return []
    here = [value["$ref"]] if "$ref" in value else []
    return here + [found for each in value.values() for found in _references(each)]

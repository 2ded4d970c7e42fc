"""Configuration that carries our log lines to Elasticsearch or a like: rsyslog, Filebeat, Logstash, index template."""

from __future__ import annotations

from platformops.observation.log_lines import ECS, OWN
from platformops.store.records import Json, JsonObject

STREAM = "logs-platformops-default"
"""Name of the data stream: type, dataset and namespace."""
PIPELINE_NAME = "platformops"


def rsyslog_text(folder: str, *, host: str, port: int, work: str) -> str:
    """`rsyslog.conf` that follows all logs in `folder`; what cannot be sent waits on disk in `work`, nothing is lost.

    Documents get their id when they are first read, so that one that is sent again is refused as already there.
    """
    return f"""# Ships the structured logs of PlatformOps to the bulk interface of Elasticsearch.
global(workDirectory="{work}" maxMessageSize="256k")
module(load="imfile" mode="inotify")
module(load="omelasticsearch")
template(name="line" type="list") {{ property(name="msg") }}
template(name="id" type="string" string="%uuid%")
template(name="stream" type="string" string="{STREAM}")
input(type="imfile" File="{folder}/*.jsonl" Tag="platformops:" ruleset="ship" addMetadata="off" freshStartTail="off")
ruleset(name="ship") {{
  action(
    type="omelasticsearch" server="{host}" serverport="{port}" template="line"
    searchIndex="stream" dynSearchIndex="on" searchType=""
    bulkmode="on" writeoperation="create" bulkid="id" dynbulkid="on"
    errorFile="{work}/refused.json"
    queue.type="LinkedList" queue.filename="platformops" queue.size="20000" queue.dequeueBatchSize="500"
    queue.maxDiskSpace="1g" queue.saveOnShutdown="on"
    action.resumeRetryCount="-1" action.resumeInterval="1" action.resumeIntervalMax="10"
  )
}}
"""


def filebeat_document(folder: str, *, url: str) -> JsonObject:
    """The content of `filebeat.yml`."""
    source: JsonObject = {
        "type": "filestream",
        "id": PIPELINE_NAME,
        "paths": [f"{folder}/*.jsonl"],
        "parsers": [{"ndjson": {"target": "", "overwrite_keys": True, "add_error_key": True}}],
    }
    return {
        "filebeat.inputs": [source],
        "output.elasticsearch": {"hosts": [url], "index": STREAM},
        "setup.ilm.enabled": False,
        "setup.template.enabled": False,
    }


def logstash_text(*, url: str) -> str:
    """`platformops.conf` for those who put Logstash between Filebeat and Elasticsearch."""
    return f"""input {{ beats {{ port => 5044 }} }}
filter {{ json {{ source => "message" skip_on_invalid_json => true }} }}
output {{
  elasticsearch {{
    hosts => ["{url}"]
    data_stream => "true"
    data_stream_type => "logs"
    data_stream_dataset => "platformops"
    data_stream_namespace => "default"
  }}
}}
"""


def index_template() -> JsonObject:
    """Body of `PUT _index_template/platformops`: ECS fields by their types, ours below `platformops`."""
    ours: dict[str, Json] = {name: {"type": kind} for name, kind in OWN.items()}
    limits: dict[str, JsonObject] = {"keyword": {"ignore_above": 1024}, "ip": {"ignore_malformed": True}}
    properties: dict[str, Json] = {name: {"type": kind, **limits.get(kind, {})} for name, kind in ECS.items()}
    properties["platformops"] = {"type": "object", "dynamic": False, "properties": ours}
    return {
        "index_patterns": ["logs-platformops-*"],
        "data_stream": {},
        "priority": 200,
        "template": {"mappings": {"dynamic": False, "properties": properties}},
    }

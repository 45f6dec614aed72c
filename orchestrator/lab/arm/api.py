"""The routes: which path and verb is answered by which handler. Unknown paths and verbs end here."""

from __future__ import annotations

import re
from urllib.parse import unquote

from orchestrator.core.errors import LabError
from orchestrator.lab.arm import children, metrics, paper, scopes, servers
from orchestrator.lab.arm.operations import LabState, settle
from orchestrator.lab.arm.protocol import PROVIDER, SERVER_TYPE, ArmFault, Reply, Request, require_api_version
from orchestrator.lab.arm.servers import Handler

_SUB = f"/subscriptions/{{sub}}/providers/{PROVIDER}"
_LOCATION = f"{_SUB}/locations/{{location}}"
_GROUP = "/subscriptions/{sub}/resourceGroups/{group}"
_SERVER = f"{_GROUP}/providers/{SERVER_TYPE}/{{server}}"

_PATHS: dict[str, dict[str, Handler]] = {
    _GROUP: {"GET": scopes.get_group, "HEAD": scopes.get_group, "PUT": scopes.put_group, "DELETE": scopes.delete_group},
    f"{_GROUP}/providers/{SERVER_TYPE}": {"GET": servers.list_servers},
    f"{_SUB}/flexibleServers": {"GET": servers.list_servers},
    f"{_SUB}/checkNameAvailability": {"POST": scopes.check_name},
    f"{_LOCATION}/checkNameAvailability": {"POST": scopes.check_name},
    f"{_LOCATION}/capabilities": {"GET": scopes.capabilities},
    f"{_LOCATION}/resourceType/flexibleServers/usages": {"GET": scopes.quota},
    f"{_LOCATION}/azureAsyncOperation/{{operation}}": {"GET": servers.poll},
    f"{_LOCATION}/operationResults/{{operation}}": {"GET": servers.result},
    f"/providers/{PROVIDER}/getPrivateDnsZoneSuffix": {"POST": scopes.dns_suffix},
    _SERVER: {
        "GET": servers.get_server, "PUT": servers.write_server, "PATCH": servers.write_server,
        "DELETE": servers.delete_server,
    },
    f"{_SERVER}/restart": {"POST": servers.power("Restart")},
    f"{_SERVER}/start": {"POST": servers.power("Start")},
    f"{_SERVER}/stop": {"POST": servers.power("Stop")},
    f"{_SERVER}/capabilities": {"GET": scopes.capabilities},
    f"{_SERVER}/configurations": {"GET": children.list_configurations},
    f"{_SERVER}/configurations/{{name}}": {
        "GET": children.get_configuration, "PUT": children.write_configuration, "PATCH": children.write_configuration,
    },
    f"{_SERVER}/databases": {"GET": children.list_databases},
    f"{_SERVER}/databases/{{name}}": {
        "GET": children.get_database, "PUT": children.refuse_database, "DELETE": children.refuse_database,
    },
    f"{_SERVER}/firewallRules": {"GET": children.list_rules},
    f"{_SERVER}/firewallRules/{{name}}": {
        "GET": children.get_rule, "PUT": children.put_rule, "DELETE": children.delete_rule,
    },
    f"{_SERVER}/administrators": {"GET": children.list_administrators},
    f"{_SERVER}/administrators/{{name}}": {
        "GET": children.get_administrator, "PUT": children.put_administrator, "DELETE": children.delete_administrator,
    },
    f"{_SERVER}/providers/Microsoft.Insights/metrics": {"GET": metrics.list_metrics},
    f"{_SERVER}/providers/Microsoft.Insights/metricDefinitions": {"GET": metrics.list_definitions},
    f"{_SERVER}/replicas": {"GET": children.empty_list},
    f"{_SERVER}/logFiles": {"GET": children.empty_list},
    f"{_SERVER}/backups": {"GET": children.empty_list},
    f"{_SERVER}/maintenanceEvents": {"GET": children.empty_list},
    **{path: {"GET": paper.get, "PUT": paper.put, "DELETE": paper.delete} for path in paper.paths(_GROUP, _SERVER)},
}  # fmt: skip


def _template(path: str) -> re.Pattern[str]:
    """ARM matches paths without regard to case: clients do send `resourcegroups`."""
    pattern = re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", path)
    return re.compile(f"^{pattern}/?$", re.IGNORECASE)


_ROUTES = [
    (_template(path), path.rpartition("/providers/")[2].startswith(PROVIDER), handlers)
    for path, handlers in _PATHS.items()
]


def answer(state: LabState, request: Request) -> Reply:
    """The reply to one request; errors are replies too."""
    try:
        state.faults.check_request()
        for pattern, of_provider, handlers in _ROUTES:
            match = pattern.match(request.path)
            if match is None:
                continue
            require_api_version(request, of_provider=of_provider)
            handler = handlers.get(request.method)
            if handler is None:
                text = f"The requested resource does not support http method '{request.method}'."
                raise ArmFault(405, "HttpMethodNotAllowed", text, {"Allow": ", ".join(handlers)})
            settle(state)
            return handler(
                state, request.with_params({name: unquote(value) for name, value in match.groupdict().items()})
            )
        text = f"The lab's ARM endpoint has nothing at '{request.path}'."
        raise ArmFault(404, "InvalidResourceType", text)
    except ArmFault as fault:
        return fault.reply()
    except LabError as error:  # the cluster behind could not be asked
        return ArmFault(500, "InternalServerError", error.message).reply()

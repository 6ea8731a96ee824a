"""An MCP server over standard input and output, without a library: three tools on two pages, or a way to misbehave.

    python3 mcp_server.py good | ends | refuses | endless | hangs
"""
import json
import os
import sys
import time

MOOD = sys.argv[1]
assert not [name for name in os.environ if name.startswith("AION_")], "keys of the caller got here"


def tool(name, **properties):
    schema = {"type": "object", "properties": properties}
    return {"name": name, "description": f"The tool {name}", "inputSchema": schema}


FIRST = {"tools": [tool("add", a={"type": "number"}), tool("greet")], "nextCursor": "2"}
SECOND = {"tools": [tool("last")]}


def answer(request):
    """The result of a request."""
    method, params = request["method"], request.get("params") or {}
    if method == "initialize":
        version = params["protocolVersion"]
        return {"protocolVersion": version, "capabilities": {"tools": {}}, "serverInfo": {"name": "t", "version": "1"}}
    if method != "tools/list":
        return None
    if MOOD == "refuses":
        return None
    if MOOD == "hangs":
        time.sleep(3600)
    if MOOD == "endless":
        return {"tools": [], "nextCursor": "more"}
    return SECOND if params.get("cursor") == "2" else FIRST


if MOOD == "ends":
    sys.exit(3)
for line in sys.stdin:
    request = json.loads(line)
    if "id" not in request:
        continue
    result = answer(request)
    said = {"jsonrpc": "2.0", "id": request["id"]}
    if result is None:
        said["error"] = {"code": -32601, "message": "no such method"}
    else:
        said["result"] = result
    print(json.dumps(said), flush=True)

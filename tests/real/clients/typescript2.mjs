// The client of npm's @modelcontextprotocol/client 2.x, in either era.

import { Client, StreamableHTTPClientTransport } from "@modelcontextprotocol/client";
import { StdioClientTransport } from "@modelcontextprotocol/client/stdio";

import { serve } from "./commands.mjs";

function transportTo(to) {
  if (typeof to === "string") return new StreamableHTTPClientTransport(new URL(to));
  return new StdioClientTransport({ command: to[0], args: to.slice(1) });
}

async function open(to, era, onMethod) {
  const client = new Client({ name: "typescript2", version: "1" }, { versionNegotiation: { mode: era } });
  client.fallbackNotificationHandler = async ({ method }) => onMethod(method);
  client.onerror = (error) => console.error(`${error}`);
  await client.connect(transportTo(to));
  const version = client.getNegotiatedProtocolVersion();
  const listen = async () => ({ ended: (await client.listen({ toolsListChanged: true })).closed });
  return {
    version,
    logging: Boolean(client.getServerCapabilities()?.logging),
    tools: async () => (await client.listTools()).tools,
    call: (name, args, onProgress) => client.callTool({ name, arguments: args }, { onprogress: onProgress }),
    listen: version >= "2026-07-28" ? listen : undefined,
    close: () => client.close(),
  };
}

serve(open);

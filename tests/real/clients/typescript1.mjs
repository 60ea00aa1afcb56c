// The client of npm's @modelcontextprotocol/sdk 1.x.

import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StdioClientTransport } from "@modelcontextprotocol/sdk/client/stdio.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";

import { serve } from "./commands.mjs";

function transportTo(to) {
  if (typeof to === "string") return new StreamableHTTPClientTransport(new URL(to));
  // It does not keep the version, which the SDK passes to this method.
  const transport = new StdioClientTransport({ command: to[0], args: to.slice(1) });
  transport.setProtocolVersion = (version) => (transport.protocolVersion = version);
  return transport;
}

async function open(to, _era, onMethod) {
  const client = new Client({ name: "typescript1", version: "1" });
  client.fallbackNotificationHandler = async ({ method }) => onMethod(method);
  // Without a handler, errors of the event stream would be lost.
  client.onerror = (error) => console.error(`${error}`);
  const transport = transportTo(to);
  await client.connect(transport);
  return {
    version: transport.protocolVersion,
    logging: Boolean(client.getServerCapabilities()?.logging),
    tools: async () => (await client.listTools()).tools,
    call: (name, args, onProgress) => client.callTool({ name, arguments: args }, undefined, { onprogress: onProgress }),
    close: () => client.close(),
  };
}

serve(open);

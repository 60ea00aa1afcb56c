// The client of npm's @modelcontextprotocol/sdk 1.x.

import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";

import { serve } from "./commands.mjs";

async function open(url, _era, onMethod) {
  const client = new Client({ name: "typescript1", version: "1" });
  client.fallbackNotificationHandler = async ({ method }) => onMethod(method);
  // Without a handler, errors of the event stream would be lost.
  client.onerror = (error) => console.error(`${error}`);
  const transport = new StreamableHTTPClientTransport(new URL(url));
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

// The client of npm's @modelcontextprotocol/sdk 1.x.

import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";

import { serve } from "./commands.mjs";

async function open(url, _era, saw) {
  const client = new Client({ name: "typescript1", version: "1" });
  client.fallbackNotificationHandler = async ({ method }) => saw(method);
  // Without a handler an error of the event stream would go unseen.
  client.onerror = (error) => console.error(`${error}`);
  const transport = new StreamableHTTPClientTransport(new URL(url));
  await client.connect(transport);
  return {
    version: transport.protocolVersion,
    logging: Boolean(client.getServerCapabilities()?.logging),
    tools: async () => (await client.listTools()).tools,
    call: (name, args, note) => client.callTool({ name, arguments: args }, undefined, { onprogress: note }),
    close: () => client.close(),
  };
}

serve(open);

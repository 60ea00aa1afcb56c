// A client program reads commands as lines of JSON and writes their results in any order.
// The code that depends on the SDK is in `open`: it opens and uses a connection.

import { createInterface } from "node:readline";

const connections = new Map();

function commands(open) {
  return {
    // `to` is a URL, or a command whose standard input and output are used.
    async connect({ server, to, era }) {
      const seen = [];
      const peer = await open(to, era, (method) => seen.push(method));
      connections.set(server, { peer, seen, listening: null });
      return { version: peer.version, logging: peer.logging };
    },
    async tools({ server }) {
      const tools = await connections.get(server).peer.tools();
      return tools.sort((a, b) => (a.name < b.name ? -1 : 1));
    },
    async call({ server, tool, arguments: args }) {
      return connections.get(server).peer.call(tool, args, ({ total }) => write({ progress: server, total }));
    },
    async listen({ server }) {
      const connection = connections.get(server);
      if (!connection.peer.listen) return "session";
      const { ended } = await connection.peer.listen();
      connection.listening = "open";
      ended.then((how) => (connection.listening = how));
      return "listening";
    },
    async seen({ server }) {
      const { seen, listening } = connections.get(server);
      return { methods: seen, listening };
    },
    async close({ server }) {
      const { peer } = connections.get(server);
      connections.delete(server);
      await peer.close();
      return "closed";
    },
  };
}

function write(message) {
  process.stdout.write(`${JSON.stringify(message)}\n`);
}

async function execute(known, { id, do: name, ...args }) {
  try {
    return { id, ok: await known[name](args) };
  } catch (error) {
    console.error(error);
    return { id, error: `${error.name}: ${error.message}`, code: error.code ?? null };
  }
}

export function serve(open) {
  const known = commands(open);
  const lines = createInterface({ input: process.stdin });
  lines.on("line", async (line) => {
    write(await execute(known, JSON.parse(line)));
  });
  lines.on("close", async () => {
    await Promise.allSettled([...connections.values()].map(({ peer }) => peer.close()));
    process.exit(0);
  });
}

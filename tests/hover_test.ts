/** What an editor shows, asked of Deno's language server: a client's types stay short, however many commands there are. */

import { assert } from "@std/assert";

const SERVER = `
import { command } from "@packline/packline";
import { z } from "zod";
export const commands = {
${
  Array.from({ length: 30 }, (_, n) =>
    `  CMD${n}: command({
    summary: "Command ${n}",
    schema: z.object({ name${n}: z.string(), count: z.number().default(1), deep: z.object({ on: z.boolean() }) }),
    errors: { NO_${n}: z.object({ id: z.number() }) },
    handler: ({ name${n}, count }) => ({ text: name${n}, count }),
  }),`).join("\n")
}
};
`;

const CLIENT = `
import { connect } from "@packline/packline/client";
import type * as server from "./server.ts";
await using client = await connect<typeof server>({ port: 1235 });
await client.call.CMD3({ name3: "Ada", deep: { on: true } });
`;

/** How long the language server may take for everything, in milliseconds. */
const AT_MOST_MS = 120_000;

interface Message {
  id?: number;
  method?: string;
  params?: { items?: unknown[] };
  result?: unknown;
}

/** A language server with one client of it. */
class LanguageServer implements AsyncDisposable {
  readonly #child: Deno.ChildProcess;
  readonly #writer: WritableStreamDefaultWriter<Uint8Array>;
  readonly #messages: AsyncGenerator<Message>;
  readonly #deadline: ReturnType<typeof setTimeout>;
  #lastId = 0;

  constructor(cwd: string) {
    const args = ["lsp", "--quiet"];
    this.#child = new Deno.Command(Deno.execPath(), { args, cwd, stdin: "piped", stdout: "piped", stderr: "null" })
      .spawn();
    this.#writer = this.#child.stdin.getWriter();
    this.#messages = messagesOf(this.#child.stdout);
    this.#deadline = setTimeout(() => this.#child.kill("SIGKILL"), AT_MOST_MS);
  }

  async send(message: object): Promise<void> {
    const body = new TextEncoder().encode(JSON.stringify({ jsonrpc: "2.0", ...message }));
    await this.#writer.write(new TextEncoder().encode(`Content-Length: ${body.length}\r\n\r\n`));
    await this.#writer.write(body);
  }

  async ask(method: string, params: object): Promise<unknown> {
    const id = ++this.#lastId;
    await this.send({ id, method, params });
    for (;;) {
      const { done, value } = await this.#messages.next();
      if (done) throw new Error("the language server has ended");
      if (value.method === undefined && value.id === id) return value.result;
      if (value.method === undefined || value.id === undefined) continue;
      const isConfiguration = value.method === "workspace/configuration";
      await this.send({ id: value.id, result: isConfiguration ? value.params?.items?.map(() => null) : null });
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearTimeout(this.#deadline);
    try {
      this.#child.kill("SIGKILL");
    } catch {
      // It has ended already.
    }
    await this.#messages.return(undefined);
    await this.#writer.abort().catch(() => {});
    await this.#child.status;
  }
}

/** Messages with their length before them. */
async function* messagesOf(stream: ReadableStream<Uint8Array>): AsyncGenerator<Message, void, void> {
  let bytes = new Uint8Array(0);
  for await (const chunk of stream) {
    bytes = Uint8Array.from([...bytes, ...chunk]);
    for (;;) {
      const head = new TextDecoder().decode(bytes.subarray(0, 200)).match(
        /^(?:.*\r\n)*?Content-Length: (\d+)\r\n(?:.+\r\n)*\r\n/,
      );
      if (head === null) break;
      const end = head[0].length + Number(head[1]);
      if (bytes.length < end) break;
      yield JSON.parse(new TextDecoder().decode(bytes.subarray(head[0].length, end)));
      bytes = bytes.slice(end);
    }
  }
}

Deno.test("types - an editor shows connect, its client and a command's method in a few lines, with 30 commands", async (t) => {
  const folder = await Deno.makeTempDir();
  try {
    const project = new URL("../", import.meta.url).pathname;
    const config = {
      imports: { "@packline/packline": "jsr:@packline/packline@^0.1.0", zod: "npm:zod@^4.6.7" },
      links: [project],
    };
    await Deno.writeTextFile(`${folder}/deno.json`, JSON.stringify(config));
    await Deno.writeTextFile(`${folder}/server.ts`, SERVER);
    await Deno.writeTextFile(`${folder}/client.ts`, CLIENT);
    await using server = new LanguageServer(folder);
    const uri = `file://${folder}/client.ts`;
    const workspaceFolders = [{ uri: `file://${folder}`, name: "service" }];
    const capabilities = { workspace: { configuration: true, workspaceFolders: true } };
    const initializationOptions = { enable: true };
    await server.ask("initialize", { processId: Deno.pid, capabilities, workspaceFolders, initializationOptions });
    await server.send({ method: "initialized", params: {} });
    const textDocument = { uri, languageId: "typescript", version: 1, text: CLIENT };
    await server.send({ method: "textDocument/didOpen", params: { textDocument } });
    for (const [marked, most] of [["connect<", 2000], ["client =", 200], ["call.", 3000], ["CMD3", 500]] as const) {
      await t.step(marked, async () => {
        const lines = CLIENT.slice(0, CLIENT.indexOf(marked)).split("\n");
        const position = { line: lines.length - 1, character: lines[lines.length - 1].length + 1 };
        const shown = JSON.stringify(await server.ask("textDocument/hover", { textDocument: { uri }, position }));
        assert(/connect<|Client<|CMD3: \(params/.test(shown), `it shows ${shown}`);
        assert(shown.length < most, `it shows ${shown.length} characters: ${shown.slice(0, 1000)}`);
      });
    }
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

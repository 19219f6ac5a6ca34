/**
 * A session of the Model Context Protocol: answers the JSON-RPC messages of an agent with the commands of a server.
 *
 * In: lines, each with a message, one at a time. Out: messages. The session supports the revision without a handshake
 * (2026-07-28), in which each request names its version, and the earlier revisions with `initialize`. Of both it
 * supports what tools need: discovery, the list, calls, their cancellation, ping. Refused, by JSON-RPC errors: all
 * other requests, and an unsupported version.
 */

import type { Client } from "../client/connect.ts";
import { RpcError } from "../errors.ts";
import config from "../deno.json" with { type: "json" };
import { type Contract, objectOf, servedContract } from "./contract.ts";
import { textFor } from "./error_text.ts";
import { fromJson } from "./json.ts";
import { callTool, offered, toolOf } from "./mcp_tools.ts";
import { ContractError } from "./shape.ts";

/** The revision in which each request names its version. */
const MODERN = "2026-07-28";

/** The revisions with a handshake, the latest first. 2025-03-26 is missing, because it requires batches. */
const LEGACY = ["2025-11-25", "2025-06-18", "2024-11-05"];

const VERSION_KEY = "io.modelcontextprotocol/protocolVersion";
const CAPABILITIES_KEY = "io.modelcontextprotocol/clientCapabilities";

/** How long an agent may keep the list of tools. */
const LIST_TTL_MS = 60_000;

const PARSE_ERROR = -32700;
const INVALID_REQUEST = -32600;
const METHOD_NOT_FOUND = -32601;
const INVALID_PARAMS = -32602;
const INTERNAL_ERROR = -32603;
const UNSUPPORTED_VERSION = -32022;

const SERVER_INFO = { name: "packline", version: config.version };
const CAPABILITIES = { tools: {} };

type Fields = Readonly<Record<string, unknown>>;

/** A request that is refused. */
class Refusal extends Error {
  constructor(readonly code: number, message: string, readonly data?: unknown) {
    super(message);
  }
}

/** Options of a session. */
interface McpOptions {
  /** Calls the server. */
  readonly client: Client;
  /** The commands to offer; if empty, all except those with a number below 16. */
  readonly names: readonly string[];
  /** How long a call may take, and how long a stream is collected. */
  readonly timeoutMs: number;
  /** Sends a message. */
  readonly send: (message: object) => void;
  /** Reports why a command is not offered. */
  readonly note: (text: string) => void;
}

/** One agent. */
export class McpSession {
  readonly #options: McpOptions;
  readonly #running = new Map<string | number, AbortController>();
  #hasHandshake = false;
  #commands: Promise<Contract> | undefined;
  #noted = new Set<string>();

  constructor(options: McpOptions) {
    this.#options = options;
  }

  /** Handles a line. If its message has an answer, sends it. */
  async receive(line: Uint8Array): Promise<void> {
    let text: string;
    try {
      text = new TextDecoder("utf-8", { fatal: true }).decode(line);
    } catch {
      return this.#refuse(undefined, new Refusal(PARSE_ERROR, "the line is not text in UTF-8"));
    }
    if (text.trim() === "") return;
    let message: unknown;
    try {
      message = JSON.parse(text);
    } catch {
      return this.#refuse(undefined, new Refusal(PARSE_ERROR, "the line is not JSON"));
    }
    const { jsonrpc, id, method, params } = objectOf(message);
    // An id is text or an integer. A larger one is rounded, so its answer would have another id.
    const isRequest = typeof id === "string" || typeof id === "number" && Number.isSafeInteger(id);
    if (jsonrpc !== "2.0" || typeof method !== "string" || !(isRequest || id === undefined)) {
      return this.#refuse(
        isRequest ? id : undefined,
        new Refusal(INVALID_REQUEST, "the line is not a JSON-RPC 2.0 request"),
      );
    }
    if (isRequest) return await this.#answer(id, method, objectOf(params), text);
    if (method === "notifications/cancelled") this.#cancel(objectOf(params).requestId);
  }

  /** Ends all calls. */
  end(): void {
    for (const call of this.#running.values()) call.abort();
  }

  async #answer(id: string | number, method: string, params: Fields, text: string): Promise<void> {
    if (this.#running.has(id)) {
      return this.#refuse(id, new Refusal(INVALID_REQUEST, "a request with this id is not answered yet"));
    }
    const call = new AbortController();
    this.#running.set(id, call);
    try {
      const isModern = this.#isModern(method, objectOf(params._meta));
      const result = await this.#resultOf(method, params, text, call.signal);
      // A caller that has cancelled gets no answer.
      if (!call.signal.aborted) this.#options.send({ jsonrpc: "2.0", id, result: isModern ? modern(result) : result });
    } catch (error) {
      if (!call.signal.aborted) this.#refuse(id, refusalOf(error));
    } finally {
      this.#running.delete(id);
    }
  }

  /** Whether a request names its version itself. */
  #isModern(method: string, meta: Fields): boolean {
    const requested = meta[VERSION_KEY];
    if (requested === undefined) {
      if (this.#hasHandshake || method === "initialize" || method === "ping") return false;
      throw new Refusal(INVALID_PARAMS, `the request needs ${VERSION_KEY} in _meta, or an initialize before it`);
    }
    if (requested !== MODERN) {
      const data = { supported: [MODERN], requested };
      throw new Refusal(UNSUPPORTED_VERSION, `this server speaks ${MODERN}`, data);
    }
    if (typeof meta[CAPABILITIES_KEY] !== "object") {
      throw new Refusal(INVALID_PARAMS, `the request needs ${CAPABILITIES_KEY} in _meta`);
    }
    return true;
  }

  async #resultOf(method: string, params: Fields, text: string, signal: AbortSignal): Promise<Fields> {
    switch (method) {
      case "initialize":
        return this.#handshake(params.protocolVersion);
      case "server/discover":
        return { supportedVersions: [MODERN], capabilities: CAPABILITIES };
      case "ping":
        return {};
      case "tools/list":
        this.#commands = undefined;
        return { tools: (await this.#offered()).map(toolOf) };
      case "tools/call":
        return await this.#call(params.name, text, signal);
      default:
        throw new Refusal(METHOD_NOT_FOUND, `there is no method ${JSON.stringify(method)}`);
    }
  }

  #handshake(requested: unknown): Fields {
    this.#hasHandshake = true;
    const protocolVersion = LEGACY.find((version) => version === requested) ?? LEGACY[0];
    return { protocolVersion, capabilities: CAPABILITIES, serverInfo: SERVER_INFO };
  }

  async #call(name: unknown, text: string, signal: AbortSignal): Promise<Fields> {
    const command = (await this.#offered()).find((command) => command.name === name);
    if (command === undefined) throw new Refusal(INVALID_PARAMS, `there is no tool ${JSON.stringify(name)}`);
    const { client, timeoutMs } = this.#options;
    return { ...await callTool(client, command, () => argumentsIn(text), { signal, timeoutMs }) };
  }

  /** The offered commands: requested for each list, and kept for the calls that follow. */
  #offered(): Promise<Contract> {
    const asked = this.#commands ??= this.#ask().catch((error) => {
      if (this.#commands === asked) this.#commands = undefined;
      throw error;
    });
    return asked;
  }

  async #ask(): Promise<Contract> {
    const { client, names, note } = this.#options;
    const { commands, leftOut } = offered(await servedContract(client), names);
    for (const text of leftOut) if (!this.#noted.has(text)) note(`not offered: ${text}`);
    this.#noted = new Set(leftOut);
    return commands;
  }

  #cancel(id: unknown): void {
    if (typeof id === "string" || typeof id === "number") this.#running.get(id)?.abort();
  }

  #refuse(id: string | number | undefined, { code, message, data }: Refusal): void {
    this.#options.send({ jsonrpc: "2.0", id, error: { code, message, ...(data === undefined ? {} : { data }) } });
  }
}

/** Adds the fields that the modern revision has in each result, and in a result that may be cached. */
function modern(result: Fields): Fields {
  const isKept = "tools" in result || "supportedVersions" in result;
  return {
    resultType: "complete",
    ...result,
    ...(isKept ? { ttlMs: LIST_TTL_MS, cacheScope: "private" } : {}),
    _meta: { "io.modelcontextprotocol/serverInfo": SERVER_INFO },
  };
}

function refusalOf(error: unknown): Refusal {
  if (error instanceof Refusal) return error;
  if (error instanceof RpcError) return new Refusal(INTERNAL_ERROR, textFor(error) ?? error.code);
  if (error instanceof ContractError) {
    return new Refusal(INTERNAL_ERROR, `the server's reply to INFO cannot be used: ${error.message}`);
  }
  throw error;
}

/** The arguments in a request, as wire values, such as integers beyond 2^53 and bytes. */
function argumentsIn(text: string): unknown {
  return objectOf(objectOf(fromJson(text)).params).arguments ?? {};
}

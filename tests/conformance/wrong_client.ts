/**
 * A small client made from PROTOCOL.md, with its driver; and the ways in which it can be wrong.
 *
 * In: steps, a line each; the name of a mistake as the argument. Out: answers (`README.md`). Refused: nothing.
 */

import type { Answer, CallStep } from "./driver.ts";
import { decode, encode, join } from "./msgpack.ts";
import { fromJson, toJson } from "./values.ts";
import { frame, longHeader, MAX_SHORT_BYTES, type Message } from "./wire.ts";

/** The mistakes, by what such a client does, and the check that must notice each. */
export const CLIENT_MISTAKES: Record<string, [heading: string, name: string]> = {
  "reads lines": ["The frame", "a newline in the payload"],
  "does not look at the newline": [
    "Broken frames",
    "a carriage return in place of the newline in place of a reply: the call fails, the client closes",
  ],
  "takes any header for a length": [
    "Broken frames",
    "57,311 bytes in a short frame in place of a reply: the call fails, the client closes",
  ],
  "leaves a broken connection open": [
    "Duties of a client",
    "the byte c1 in place of a reply: the call fails, the client closes",
  ],
  "does not wrap the header": ["The frame", "requests of all sizes around 224 and 256 bytes"],
  "sends short payloads in long frames": ["The wire on one page", "a call and its result"],
  "takes nil for a failure": ["Values", "nil from the server"],
  "takes binary for text": ["Values", "binary from the server"],
  "looks for `err` in the result": ["Replies", "a result that looks as a failure"],
  "refuses fields that it does not know": ["Replies", "fields that the client does not know"],
  "puts parameters in a map": ["Requests", "parameters lie beside `cmd`"],
  "puts `meta` among the parameters": ["Meta", "`meta` goes along with the call, beside its parameters"],
  "says `ttl` as text": ["Deadlines", "`ttl`, if it is sent, is no more than the time of the call"],
  "sends a call without time": ["Duties of a client", "a call without time is not sent"],
  "sends a lost call again": [
    "The end of a connection",
    "the end in place of a reply: the call fails, and is not sent again",
  ],
  "comes again at once": ["What goes wrong", "OVERLOADED with `$after`: not sent again before that"],
  "gives a late reply to another call": [
    "Duties of a client",
    "a call has a timer of its own, and a late reply is not the next one's",
  ],
  "uses one `seq` for all": ["Order", "ten calls, answered in reverse"],
  "counts replies": ["Order", "ten calls, answered in reverse"],
  "does not cancel": ["Cancel", "a cancel is sent, and the call ends"],
  "grants credit once": ["Streams and credit", "2,000 items, as the client grants them"],
  "leaves a stream without a word": [
    "Streams and credit",
    "a stream that is left is cancelled, and items may still come",
  ],
  "takes the end of a stream for a result": [
    "Streams and credit",
    "items in place of one reply: the call fails, and takes no other call's",
  ],
  "takes an error with `more` for an item": ["Streams and credit", "an error with `more` ends the stream"],
  "says nothing after a cancel": ["Signs of life", "a call that was given up counts as open until it is answered"],
  "sends all items at once": ["Streams from the caller", "a grant for each item"],
  "does not end its streams": ["Streams from the caller", "no item"],
  "says nothing while it waits": ["Signs of life", "while a call is open, the client says something in time"],
  "waits for the dead": [
    "Signs of life",
    "a server that says nothing is lost: the call fails, the client closes",
  ],
  "breaks at a notice that it does not know": ["Messages", "a notice that the client does not know is ignored"],
  "stays where it was told to go": [
    "Going",
    "a call in flight is answered, the next goes over a new connection, the old one is closed",
  ],
};

const mistake = import.meta.main ? Deno.args[0] : "";

/** Items that may be under way to this client. */
const CREDIT = 16;
const MAX_BYTES = 1_048_576;
const TIMEOUT_MS = 5_000;
/** A server that is silent for so long, while it is asked, is lost. */
const LOST_MS = 2_500;
/** The `seq` of the client's own PING. */
const PING_SEQ = 2 ** 40;

/** Why a call failed: a code of the server's, or one of the client's own. */
class Failure extends Error {
  constructor(readonly code: string) {
    super(code);
  }
}

/** A call that waits for its final reply. */
interface Open {
  onMessage(message: Message): void;
  onFailed(failure: Failure): void;
}

/** Bytes of a message as a frame. */
function frameOf(message: Message): Uint8Array {
  const payload = encode(message);
  if (mistake === "does not wrap the header" && payload.length >= 224) {
    return join(
      Uint8Array.of((payload.length >> 8) + 32, Math.min(255, (payload.length & 255) + 32)),
      payload,
      newline,
    );
  }
  if (mistake === "sends short payloads in long frames") return join(longHeader(payload.length), payload, newline);
  return frame(payload);
}

const newline = Uint8Array.of(0x0a);

/** One connection to a server. */
class Connection {
  readonly open = new Map<number, Open>();
  isOver = false;
  isGoing = false;
  readonly #conn: Deno.TcpConn;
  #writing = Promise.resolve();
  #lastSentMs = performance.now();
  #lastCameMs = performance.now();
  #nextSeq = 0;
  /** Whether a PING is in flight. */
  #isAsked = false;
  readonly #timer: ReturnType<typeof setInterval>;

  constructor(conn: Deno.TcpConn, aliveMs: number) {
    this.#conn = conn;
    conn.setNoDelay(true);
    this.send({ cmd: 0, max: MAX_BYTES, alive: aliveMs, notice: true });
    this.#timer = setInterval(() => this.#keepAlive(aliveMs), aliveMs / 10);
    void this.#read();
  }

  nextSeq(): number {
    return mistake === "uses one `seq` for all" ? 1 : this.#nextSeq++;
  }

  /** Sends messages, in one write. */
  send(...messages: Message[]): void {
    this.#lastSentMs = performance.now();
    const bytes = join(...messages.map(frameOf));
    this.#writing = this.#writing.then(async () => {
      for (let at = 0; at < bytes.length;) at += await this.#conn.write(bytes.subarray(at));
    }).catch(() => this.end(new Failure("LOST")));
  }

  /** The final reply of a call has come. */
  settle(seq: number): void {
    this.open.delete(seq);
    if (this.isGoing && this.open.size === 0) this.end(new Failure("CLOSED"));
  }

  /** Ends the connection, and all its calls. */
  end(failure: Failure): void {
    if (this.isOver) return;
    this.isOver = true;
    clearInterval(this.#timer);
    if (mistake !== "leaves a broken connection open" || failure.code === "CLOSED") this.#conn.close();
    for (const call of [...this.open.values()]) call.onFailed(failure);
  }

  #keepAlive(aliveMs: number): void {
    const nowMs = performance.now();
    if (this.open.size === 0) this.#lastCameMs = nowMs;
    if (this.open.size === 0 || mistake === "says nothing while it waits") return;
    const isLost = this.#isAsked && nowMs - this.#lastCameMs > LOST_MS;
    if (isLost && mistake !== "waits for the dead") return this.end(new Failure("LOST"));
    if (nowMs - this.#lastSentMs < aliveMs / 2) return;
    // While a PING is not answered, its number is in flight: then the promise is said again.
    this.send(this.#isAsked ? { cmd: 0, alive: aliveMs } : { cmd: 1, seq: PING_SEQ });
    this.#isAsked = true;
  }

  async #read(): Promise<void> {
    try {
      while (true) this.#onMessage(await this.#message());
    } catch (error) {
      this.end(error instanceof Failure ? error : new Failure("BROKEN"));
    }
  }

  #held: Uint8Array = new Uint8Array(0);

  async #take(size: number): Promise<Uint8Array> {
    const buffer = new Uint8Array(65_536);
    while (this.#held.length < size) {
      const read = await this.#conn.read(buffer).catch(() => null);
      if (read === null) throw new Failure("LOST");
      this.#lastCameMs = performance.now();
      this.#held = join(this.#held, buffer.subarray(0, read));
    }
    const taken = this.#held.slice(0, size);
    this.#held = this.#held.slice(size);
    return taken;
  }

  async #message(): Promise<Message> {
    if (mistake === "reads lines") {
      const line: number[] = [];
      for (let byte; (byte = (await this.#take(1))[0]) !== 0x0a;) line.push(byte);
      return decode(Uint8Array.from(line.slice(2))) as Message;
    }
    const [high, low] = await this.#take(2);
    let size = (high - 32 & 255) << 8 | (low - 32 & 255);
    if (size === 0xffff) {
      size = new DataView((await this.#take(4)).buffer).getUint32(0);
      if (size <= MAX_SHORT_BYTES || size > MAX_BYTES) throw new Failure("BROKEN");
    } else if (size > MAX_SHORT_BYTES && mistake !== "takes any header for a length") throw new Failure("BROKEN");
    const payload = await this.#take(size);
    const [end] = await this.#take(1);
    if (end !== 0x0a && mistake !== "does not look at the newline") throw new Failure("BROKEN");
    const message = decode(payload);
    if (typeof message !== "object" || message === null || Array.isArray(message)) throw new Failure("BROKEN");
    return message as Message;
  }

  #onMessage(message: Message): void {
    const seq = message.seq as number | undefined;
    if (seq === undefined && typeof message.err === "string") throw new Failure(message.err);
    if ("going" in message && mistake !== "stays where it was told to go") {
      this.isGoing = true;
      if (this.open.size === 0) this.end(new Failure("CLOSED"));
    }
    const isNotice = !("res" in message || "err" in message);
    if (isNotice && !("going" in message || "credit" in message)) {
      if (mistake === "breaks at a notice that it does not know") throw new Failure("BROKEN");
      return;
    }
    if (seq === PING_SEQ) this.#isAsked = false;
    let call = this.open.get(seq!);
    const [first] = this.open.values();
    if (mistake === "counts replies" && !isNotice) call = first;
    if (mistake === "gives a late reply to another call") call ??= first;
    call?.onMessage(message);
  }
}

/** What a step says of one call. */
interface Step extends Omit<CallStep, "call"> {
  connect?: string;
  aliveMs?: number;
  call?: string;
  calls?: Step[];
  stream?: string;
  take?: number;
  close?: boolean;
}

/** A client of one server. */
class Client {
  #connection: Promise<Connection> | undefined;

  constructor(readonly hostname: string, readonly port: number, readonly aliveMs: number) {}

  async close(): Promise<void> {
    (await this.#connection?.catch(() => undefined))?.end(new Failure("CLOSED"));
  }

  /** Makes a call: its items and its result. */
  async call(step: Step): Promise<Answer> {
    const timeoutMs = step.timeoutMs ?? TIMEOUT_MS;
    if (timeoutMs <= 0 && mistake !== "sends a call without time") return { err: "TIMEOUT" };
    const answer = await this.#once(step, timeoutMs);
    const isLost = answer.err === "LOST" && mistake === "sends a lost call again";
    const isRefused = answer.err === "OVERLOADED" && mistake === "comes again at once";
    return isLost || isRefused ? await this.#once(step, timeoutMs) : answer;
  }

  async #once(step: Step, timeoutMs: number): Promise<Answer> {
    const items: unknown[] = [];
    const only = step.stream === undefined ? {} : { items };
    try {
      const connection = await this.#connect();
      const result = await this.#send(connection, step, timeoutMs, items);
      return { ...only, ...result };
    } catch (error) {
      if (!(error instanceof Failure)) throw error;
      return { ...only, err: error.code };
    }
  }

  /** The connection that is there, or is being made, or a new one. */
  async #connect(): Promise<Connection> {
    while (true) {
      const asked = this.#connection ??= this.#dial();
      const connection = await asked.catch(() => undefined);
      if (connection && !connection.isOver && !connection.isGoing) return connection;
      if (this.#connection === asked) this.#connection = undefined;
      if (connection === undefined) throw new Failure("UNREACHABLE");
    }
  }

  async #dial(): Promise<Connection> {
    return new Connection(await Deno.connect({ hostname: this.hostname, port: this.port }), this.aliveMs);
  }

  #send(connection: Connection, step: Step, timeoutMs: number, items: unknown[]): Promise<{ res?: unknown }> {
    const seq = connection.nextSeq();
    const params = mistake === "puts parameters in a map" ? { params: step.params } : step.params;
    const meta = mistake === "puts `meta` among the parameters" ? step.meta : step.meta && { meta: step.meta };
    const { promise, resolve, reject } = Promise.withResolvers<{ res?: unknown }>();
    let granted = mistake === "sends all items at once" ? Infinity : 1;
    let credit = CREDIT;
    const source = [...step.items ?? []];
    const sendItems = () => {
      if (step.items === undefined) return;
      const next = source.splice(0, granted);
      granted -= next.length;
      if (next.length > 0) connection.send(...next.map((item) => ({ cmd: 0, seq, item })));
      if (source.length > 0 || granted === -1 || mistake === "does not end its streams") return;
      granted = -1;
      connection.send({ cmd: 0, seq, end: true });
    };
    const leave = () => {
      if (mistake === "says nothing after a cancel") connection.open.delete(seq);
      if (mistake === "leaves a stream without a word" || mistake === "does not cancel") return;
      connection.send({ cmd: 0, seq, cancel: true });
    };
    const timers = [setTimeout(() => {
      leave();
      if (mistake === "gives a late reply to another call") connection.open.delete(seq);
      reject(new Failure("TIMEOUT"));
    }, timeoutMs)];
    if (step.cancelAfterMs !== undefined) {
      timers.push(setTimeout(() => {
        leave();
        reject(new Failure("CANCELLED"));
      }, step.cancelAfterMs));
    }
    connection.open.set(seq, {
      onFailed: reject,
      onMessage(message) {
        if ("credit" in message) {
          if (granted >= 0) granted += message.credit as number;
          return sendItems();
        }
        const isItem = message.more === true &&
          (!("err" in message) || mistake === "takes an error with `more` for an item");
        if (!isItem) {
          connection.settle(seq);
          return settle(message, resolve, reject);
        }
        if (items.length === step.take) return;
        if (step.stream === undefined && mistake !== "takes the end of a stream for a result") {
          leave();
          return reject(new Failure("BAD_REPLY"));
        }
        items.push(message.res);
        if (items.length === step.take) {
          leave();
          resolve({});
        } else if (--credit <= CREDIT / 2 && mistake !== "grants credit once") {
          connection.send({ cmd: 0, seq, credit: CREDIT - credit });
          credit = CREDIT;
        }
      },
    });
    connection.send({
      ...params,
      ...meta,
      cmd: step.call ?? step.stream,
      seq,
      ttl: mistake === "says `ttl` as text" ? String(timeoutMs) : Math.max(1, timeoutMs),
      ...step.stream !== undefined && { credit: CREDIT },
      ...step.items && { $items: true },
    });
    sendItems();
    return promise.finally(() => timers.forEach(clearTimeout));
  }
}

/** What a final reply says. */
function settle(
  message: Message,
  resolve: (answer: { res: unknown }) => void,
  reject: (failure: Failure) => void,
): void {
  const { err, res } = message;
  const inner = mistake === "looks for `err` in the result" ? (res as Message | null)?.err : undefined;
  const isOdd = mistake === "refuses fields that it does not know" &&
    Object.keys(message).some((name) => !["seq", "res", "err", "msg", "data"].includes(name));
  if (typeof err === "string") reject(new Failure(err));
  else if (inner !== undefined || isOdd || (mistake === "takes nil for a failure" && res === null)) {
    reject(new Failure("BAD_REPLY"));
  } else if (mistake === "takes binary for text" && res instanceof Uint8Array) {
    resolve({ res: new TextDecoder().decode(res) });
  } else resolve({ res });
}

// The driver ------------------------------------------------------------------------------------------------------------

let client: Client | undefined;

async function answerTo(step: Step): Promise<Answer> {
  if (step.calls) return { replies: await Promise.all(step.calls.map((one) => client!.call(one))) };
  if (step.call !== undefined || step.stream !== undefined) return await client!.call(step);
  await client?.close();
  client = undefined;
  const [hostname, port] = step.connect?.split(":") ?? [];
  if (hostname) client = new Client(hostname, Number(port), step.aliveMs ?? 30_000);
  return {};
}

async function main(): Promise<void> {
  let held = "";
  for await (const text of Deno.stdin.readable.pipeThrough(new TextDecoderStream())) {
    const lines = (held + text).split("\n");
    held = lines.pop() ?? "";
    for (const line of lines) console.log(JSON.stringify(toJson(await answerTo(fromJson(JSON.parse(line)) as Step))));
  }
  await client?.close();
}

if (import.meta.main) await main();

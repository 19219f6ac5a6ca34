/** A name server on loopback, over UDP and TCP, with the records of a test. */

import { createSocket, type Socket } from "node:dgram"; // the runtime's own is unstable
import { once } from "node:events";

/** The records of a name, by type. */
export interface DnsRecords {
  A?: string[];
  AAAA?: string[];
  SRV?: { priority: number; weight: number; port: number; target: string }[];
}

const TYPES: Record<number, keyof DnsRecords> = { 1: "A", 28: "AAAA", 33: "SRV" };
const [NO_ERROR, SERVER_FAILURE, NO_SUCH_NAME] = [0, 2, 3];

/** In: queries. Out: the records of the name; `SERVFAIL` while it is `broken`. */
export class DnsServer implements AsyncDisposable {
  /** Names without a dot at the end; a test may change them. */
  readonly names = new Map<string, DnsRecords>();
  /** The types that it cannot answer. */
  broken: (keyof DnsRecords)[] = [];
  /** How many queries have come. */
  queries = 0;
  readonly nameServer: { ipAddr: string; port: number };
  readonly #udp: Socket;
  readonly #tcp: Deno.Listener;
  readonly #served: Promise<void>;

  private constructor(udp: Socket, tcp: Deno.Listener) {
    this.#udp = udp;
    this.#tcp = tcp;
    this.nameServer = { ipAddr: "127.0.0.1", port: (tcp.addr as Deno.NetAddr).port };
    udp.on("message", (query, from) => udp.send(this.#answer(query, 512), from.port, from.address));
    this.#served = this.#serveTcp();
  }

  static async start(): Promise<DnsServer> {
    const tcp = Deno.listen({ hostname: "127.0.0.1", port: 0 });
    const udp = createSocket("udp4");
    udp.bind((tcp.addr as Deno.NetAddr).port, "127.0.0.1");
    await once(udp, "listening");
    return new DnsServer(udp, tcp);
  }

  async #serveTcp(): Promise<void> {
    for await (const conn of this.#tcp) await this.#serveConn(conn).catch(() => {});
  }

  /** Over TCP, a length of two bytes stands before each message. */
  async #serveConn(conn: Deno.Conn): Promise<void> {
    using _conn = conn;
    for (let length = await readWhole(conn, 2); length !== undefined; length = await readWhole(conn, 2)) {
      const query = await readWhole(conn, length[0] << 8 | length[1]);
      if (query === undefined) return;
      const answer = this.#answer(query, 65_535);
      await conn.write(new Uint8Array([answer.length >> 8, answer.length & 255, ...answer]));
    }
  }

  #answer(query: Uint8Array, mostBytes: number): Uint8Array {
    this.queries++;
    const labels: string[] = [];
    let at = 12;
    for (; query[at] > 0; at += query[at] + 1) {
      labels.push(new TextDecoder().decode(query.subarray(at + 1, at + 1 + query[at])));
    }
    const question = query.subarray(12, at + 5);
    const type = TYPES[query[at + 1] << 8 | query[at + 2]];
    const records = this.names.get(labels.join("."));
    const code = this.broken.includes(type) ? SERVER_FAILURE : records === undefined ? NO_SUCH_NAME : NO_ERROR;
    const answers = code === NO_ERROR ? (records?.[type] ?? []).map((record) => dataOf(type, record)) : [];
    const whole = message(query, question, code, answers, false);
    return whole.length <= mostBytes ? whole : message(query, question, code, [], true);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#tcp.close();
    this.#udp.close();
    await once(this.#udp, "close");
    await this.#served;
  }
}

function message(
  query: Uint8Array,
  question: Uint8Array,
  code: number,
  answers: number[][],
  isTruncated: boolean,
): Uint8Array {
  const flags = [0x84 | (isTruncated ? 0x02 : 0) | query[2] & 1, 0x80 | code];
  const type = question.subarray(-4, -2);
  // Each answer points to the name in the question; it may be kept for no second.
  const records = answers.flatMap((data) => [0xc0, 12, ...type, 0, 1, 0, 0, 0, 0, ...short(data.length), ...data]);
  return new Uint8Array([
    ...[query[0], query[1], ...flags, 0, 1, ...short(answers.length), 0, 0, 0, 0],
    ...[...question, ...records],
  ]);
}

function dataOf(type: keyof DnsRecords, record: NonNullable<DnsRecords[keyof DnsRecords]>[number]): number[] {
  if (typeof record !== "string") {
    const { priority, weight, port, target } = record;
    return [
      ...short(priority),
      ...short(weight),
      ...short(port),
      ...target.split(".").filter(Boolean).flatMap(label),
      0,
    ];
  }
  if (type === "A") return record.split(".").map(Number);
  const [head, tail = ""] = record.split("::");
  const groups = (text: string) => text === "" ? [] : text.split(":").map((group) => parseInt(group, 16));
  const [first, last] = [groups(head), groups(tail)];
  return [...first, ...new Array(8 - first.length - last.length).fill(0), ...last].flatMap(short);
}

function label(text: string): number[] {
  return [text.length, ...new TextEncoder().encode(text)];
}

function short(number: number): number[] {
  return [number >> 8, number & 255];
}

/** So many bytes; `undefined` at the end. */
async function readWhole(conn: Deno.Conn, length: number): Promise<Uint8Array | undefined> {
  const bytes = new Uint8Array(length);
  for (let read = 0; read < length;) {
    const more = await conn.read(bytes.subarray(read));
    if (more === null) return undefined;
    read += more;
  }
  return bytes;
}

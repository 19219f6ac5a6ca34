/**
 * Plays a vector's client against a server, and compares what comes.
 *
 * In: a vector, a connection. Out: nothing, if all is right. Refused: what is not right, by a `Wrong`.
 */

import { encode, join } from "./msgpack.ts";
import { matches, shown } from "./values.ts";
import { CLIENT_FIN, type SendStep, SERVER_FIN, type Step, type Vector } from "./vectors/vector.ts";
import { frame, type Link, type Message, Wrong } from "./wire.ts";

/** What a failure may say beside its code: text for people, details, when to come again. */
const BESIDE_ERR: Record<string, (value: unknown) => boolean> = {
  msg: (value) => typeof value === "string",
  data: () => true,
  $after: (value) => typeof value === "number" && value >= 0,
};

/** What a result may not say beside it: other fields are skipped. */
const NOT_BESIDE_RES = ["seq", "err", "more", "msg", "data"];

/** Whether a message is the reply that is wanted, with what it may say beside. */
export function isReply(message: Message, wanted: Message): boolean {
  const fits = Object.entries(wanted).every(([name, pattern]) =>
    isAbsent(pattern) ? !(name in message) : name in message && matches(message[name], pattern)
  );
  return fits &&
    Object.entries(message).filter(([name]) => !(name in wanted)).every(([name, value]) =>
      "err" in wanted ? Object.hasOwn(BESIDE_ERR, name) && BESIDE_ERR[name](value) : !NOT_BESIDE_RES.includes(name)
    );
}

function isAbsent(pattern: unknown): boolean {
  return typeof pattern === "object" && pattern !== null && "$absent" in pattern;
}

/** A client that follows a vector. */
export class Conversation {
  readonly #link: Link;
  /** Items that the server takes, by call. */
  readonly #granted = new Map<number, number>();
  #wake = () => {};

  constructor(link: Link) {
    this.#link = link;
    link.onMessage = (message) => this.#takeGrant(message);
  }

  /** Plays all steps, then ends: the server must end as well, without another word. */
  async play({ steps }: Vector): Promise<void> {
    for (const step of steps) await this.step(step);
    if (!steps.some((step) => "fin" in step && step.fin === "client")) await this.step(CLIENT_FIN);
    await this.step(SERVER_FIN);
  }

  /** Plays one step. */
  async step(step: Step): Promise<void> {
    if ("send" in step) await this.#send(step);
    else if ("expect" in step) await this.#expect(step.expect);
    else if ("anyOrder" in step) await this.#expectAll([...step.anyOrder]);
    else if ("upload" in step) await this.#upload(step.upload);
    else if (step.fin === "client") await this.#link.finish();
    else await this.#link.expectEnd();
  }

  async #send({ send, shows, pieces }: SendStep): Promise<void> {
    for (const message of [shows].flat() as Message[]) {
      if (message?.$items === true) this.#granted.set(Number(message.seq), this.#granted.get(Number(message.seq)) ?? 1);
    }
    const cut = pieces === undefined
      ? [send]
      : Array.from({ length: Math.ceil(send.length / pieces) }, (_, at) =>
        send.subarray(at * pieces, (at + 1) * pieces));
    await this.#link.sendBytes(...cut);
    if (shows !== undefined) this.#link.sent[this.#link.sent.length - 1] = shown(shows);
  }

  async #expect(wanted: Message): Promise<void> {
    const message = await this.#next(shown(wanted));
    if (!isReply(message, wanted)) throw new Wrong(shown(message), shown(wanted));
  }

  async #expectAll(wanted: Message[]): Promise<void> {
    while (wanted.length > 0) {
      const right = wanted.length === 1 ? shown(wanted[0]) : `one of ${wanted.length}, such as ${shown(wanted[0])}`;
      const message = await this.#next(right);
      const index = wanted.findIndex((one) => isReply(message, one));
      if (index === -1) throw new Wrong(shown(message), right);
      wanted.splice(index, 1);
    }
  }

  /** The next message; a failure says what should have come. */
  async #next(right: string): Promise<Message> {
    try {
      return await this.#link.message();
    } catch (error) {
      throw error instanceof Wrong ? new Wrong(error.came, right) : error;
    }
  }

  async #upload({ seq, items, end }: { seq: number; items: unknown[]; end: boolean }): Promise<void> {
    for (const item of items) {
      await this.#untilGranted(seq);
      this.#granted.set(seq, this.#granted.get(seq)! - 1);
      const message = { cmd: 0, seq, item };
      await this.#link.sendBytes(frame(encode(message)));
      this.#link.sent[this.#link.sent.length - 1] = shown(message);
    }
    if (end) await this.#link.send({ cmd: 0, seq, end: true });
  }

  async #untilGranted(seq: number): Promise<void> {
    let patient = true;
    const timer = setTimeout(() => {
      patient = false;
      this.#wake();
    }, this.#link.patienceMs);
    try {
      while (!this.#granted.get(seq)) {
        if (!patient || !this.#link.isQuiet) {
          throw new Wrong("no grant of more items", `{seq: ${seq}, credit: …} when the handler waits for an item`);
        }
        await new Promise<void>((resolve) => this.#wake = resolve);
      }
    } finally {
      clearTimeout(timer);
    }
  }

  /** Grants come when the server likes, and only for calls that have a stream of the client's. */
  #takeGrant(message: Message): boolean {
    const { seq, credit } = message;
    if (Object.keys(message).length !== 2 || !this.#granted.has(seq as number)) return false;
    if (!Number.isInteger(credit) || (credit as number) < 1) return false;
    this.#granted.set(seq as number, this.#granted.get(seq as number)! + (credit as number));
    this.#wake();
    return true;
  }
}

/** One message as bytes, cut into pieces of random sizes. */
export function cutAtRandom(messages: Message[], random: () => number): Uint8Array[] {
  const bytes = join(...messages.map((message) => frame(encode(message))));
  const pieces: Uint8Array[] = [];
  for (let at = 0; at < bytes.length;) {
    const size = 1 + Math.floor(random() ** 3 * 200);
    pieces.push(bytes.subarray(at, at += size));
  }
  return pieces;
}

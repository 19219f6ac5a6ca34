/**
 * What must hold for a connection whatever bytes a peer sends (PROTOCOL.md, "What goes wrong"): it answers in sound frames, each
 * request once at the most and all of them before an orderly end, a broken frame last; and it tells its operator nothing.
 *
 * In: the bytes of a peer. Out: what came of them, and what was wrong with that, if anything was.
 */

import { decode as std } from "jsr:@std/msgpack@^1.0.3";
import { PayloadTooLargeError } from "../../codec/errors.ts";
import { BadFrame, InvalidMessage, Request, RequestEnd, RequestItem, Settings } from "../../codec/message.ts";
import { requestsOf, takeApart } from "./by_hand.ts";
import { attempt, piecesOf, type Verdict } from "./codec_checks.ts";
import { type Conversation, converse, type Serve } from "./conversation.ts";
import { describe } from "./describe.ts";

type Reply = Record<string, unknown>;

/** As many items as a server grants at once. */
const MOST_GRANTED = 256;

/** Has the bytes served, and checks what comes of it. */
export async function checkConnection(bytes: Uint8Array, serve?: Serve): Promise<Verdict> {
  const conversation = await converse(piecesOf(bytes), serve);
  const { replies, ending } = conversation;
  const answers = takeApart(replies, Infinity).payloads.map((payload) => attempt(() => std(payload)));
  const complaint = operatorFault(conversation) ?? replyFault(bytes, conversation, answers);
  const met = answers.map((answer) => "value" in answer ? kindOf(answer.value as Reply) : "no answer");
  return { outcome: `${ending} ${replies.toHex()}`, complaint, met: [ending, ...met] };
}

/** What the operator was told, who should have been told nothing. */
function operatorFault({ errors, rejections }: Conversation): string | undefined {
  if (rejections.length > 0) return `a rejection that nobody handled: ${Deno.inspect(rejections[0])}`;
  // A reply that is too large is told to both sides, on purpose.
  const error = errors.find((error) => !(error instanceof PayloadTooLargeError));
  if (error !== undefined) return `the peer reached onError: ${Deno.inspect(error)}`;
}

/** What is wrong with the replies. */
function replyFault(
  bytes: Uint8Array,
  { replies, ending }: Conversation,
  answers: ReturnType<typeof attempt>[],
): string | undefined {
  const { end } = takeApart(replies, Infinity);
  if (end === "broken" || end === "cut" && ending !== "left") return `the replies are no frames: ${end}`;
  const sound: Reply[] = [];
  for (const answer of answers) {
    if ("error" in answer) return `a reply cannot be read: ${answer.error}`;
    const wrong = isGrant(answer.value as Reply) ? grantFault(answer.value as Reply) : shapeFault(answer.value);
    if (wrong !== undefined) return `${wrong}: ${Deno.inspect(answer.value)}`;
    sound.push(answer.value as Reply);
  }

  const asked = requestsOf(bytes);
  const calls = asked.filter((message) => message instanceof Request || message instanceof InvalidMessage);
  const broken = asked.at(-1) instanceof BadFrame;
  const fault = orderFault(calls, sound, broken) ?? uploadFault(asked, sound);
  if (fault !== undefined) return fault;

  const finals = sound.filter((answer) => answer.more !== true && !isGrant(answer)).length;
  const expected = calls.length + (broken ? 1 : 0);
  // Who has said alive, and then ends, waits for nothing more.
  const isLeft = asked.some((message) => message instanceof Settings && message.alive !== undefined);
  if (ending === "closed" && (isLeft ? finals > expected : finals !== expected)) {
    return `${finals} final replies to ${expected} messages`;
  }
  if (ending === "open") return `nothing moves any more, after ${finals} final replies to ${expected} messages`;
}

/** PROTOCOL.md, "Replies": `seq`, then `res` or `err`, then the rest; `more` with `res` alone. */
function shapeFault(value: unknown): string | undefined {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return "a reply is no map";
  const names = Object.keys(value);
  if (names[0] === "seq") names.shift();
  const [kind, ...rest] = names;
  if (kind !== "res" && kind !== "err") return "a reply begins with neither res nor err";
  if (rest.includes("res") || rest.includes("err") || rest.includes("seq")) {
    return "a reply has a field in a wrong place";
  }
  if (kind === "err" && rest.some((name) => !["msg", "data", "$after"].includes(name))) {
    return "a failure has other fields";
  }
}

/** Whether it is credit for a caller's stream. */
function isGrant(answer: Reply): boolean {
  return typeof answer === "object" && answer !== null && !("res" in answer || "err" in answer) && "credit" in answer;
}

/** PROTOCOL.md, "Streams from the caller": `seq`, then `credit`. */
function grantFault(answer: Reply): string | undefined {
  if (Object.keys(answer).join() !== "seq,credit") return "a grant has other fields";
  const { credit } = answer;
  const isRight = typeof credit === "number" && Number.isInteger(credit) && credit >= 1 && credit <= MOST_GRANTED;
  return isRight ? undefined : `a grant is no number of items from 1 to ${MOST_GRANTED}`;
}

/** PROTOCOL.md, "Order", "Streams and credit", "What goes wrong": nobody gets more final replies than they have asked for, and none behind the last. */
function orderFault(calls: unknown[], answers: Reply[], broken: boolean): string | undefined {
  const open = new Map<unknown, number>();
  for (const { seq } of calls as { seq?: number }[]) open.set(seq, (open.get(seq) ?? 0) + 1);
  const withItems = new Set((calls as Partial<Request>[]).filter((call) => call.hasItems).map(({ seq }) => seq));
  let unnamed = calls.length; // a refusal may leave out the seq that it cannot trust
  for (const [index, { seq, err, more }] of answers.entries()) {
    if (err === "BAD_FRAME") {
      if (!broken) return "BAD_FRAME without a broken frame";
      if (index !== answers.length - 1) return "BAD_FRAME is not the last reply";
      continue;
    }
    const left = seq === undefined ? unnamed : open.get(seq) ?? 0;
    if (left === 0) return `a reply too many for seq ${seq}: ${describe(answers[index])}`;
    if (isGrant(answers[index])) {
      if (!withItems.has(seq as number)) return `a grant for seq ${seq}, which has no stream of the caller's`;
      continue;
    }
    if (more === true) continue;
    unnamed--;
    if (seq !== undefined) open.set(seq, left - 1);
  }
}

/** PROTOCOL.md, "Streams from the caller": half a stream is never taken for a whole one. */
function uploadFault(asked: unknown[], answers: Reply[]): string | undefined {
  const requests = asked.filter((message) => message instanceof Request);
  for (const request of requests) {
    const { cmd, seq, hasItems, params } = request;
    const isAlone = requests.filter((other) => other.seq === seq).length === 1;
    if (cmd !== "UPLOAD" || !hasItems || "count" in params || !isAlone) continue;
    const answer = answers.find((answer) => answer.seq === seq && "res" in answer);
    if (answer === undefined) continue;
    const sent = uploadOf(asked.slice(asked.indexOf(request) + 1), seq as number);
    if (answer.res !== sent) return `an upload of ${sent ?? "no end"} was taken for one of ${answer.res} items`;
  }
}

/** The items of a stream; `undefined` if it has no end, or may have a gap before it. */
function uploadOf(behind: unknown[], seq: number): number | undefined {
  let items = 0;
  for (const message of behind) {
    if (message instanceof RequestItem && message.seq === seq) items++;
    if (message instanceof RequestEnd && message.seq === seq) return items;
    if (message instanceof InvalidMessage && message.seq === undefined) return undefined;
  }
}

function kindOf(answer: Reply): string {
  const { err, more } = answer;
  if (isGrant(answer)) return "a grant";
  return typeof err === "string" ? err : more === true ? "an item" : "a success";
}

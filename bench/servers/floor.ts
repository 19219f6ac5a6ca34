/**
 * The floor: the least a Deno server can do that still answers correctly. It knows that all requests have one size, so
 * it never looks for their ends; it counts what one read brought, and answers that many at once, with bytes prepared
 * beforehand. All it ever takes from a request is its `seq`, if it has one.
 */

import { concat, exchange, greeting, type Question, SEQ_AT } from "../wire.ts";
import { listen } from "./listen.ts";

const question: Question = /^\d+$/.test(Deno.args[0]) ? Number(Deno.args[0]) : Deno.args[0] as Question;
const { request, reply } = exchange("packline", question);
const greetingBytes = greeting("packline", question).length;

const READ_BYTES = 64 * 1024;
const most = Math.ceil(READ_BYTES / request.length);
const prepared = concat(new Array(most).fill(reply));

listen(async (conn) => {
  const buffer = new Uint8Array(READ_BYTES);
  const replies = question === "ping, seq" ? prepared.slice() : prepared;
  // Of a request that is not complete yet, so many bytes have come; the greeting is answered with nothing.
  let begun = -greetingBytes;
  while (true) {
    // Only where a seq must be taken from it, a request must lie in one piece.
    const bytes = await conn.read(question === "ping, seq" && begun > 0 ? buffer.subarray(begun) : buffer);
    if (bytes === null) return conn.close();
    const count = Math.floor((begun + bytes) / request.length);
    begun += bytes - count * request.length;
    if (count <= 0) continue;
    if (question === "ping, seq") {
      for (let index = 0; index < count; index++) {
        const from = index * request.length + SEQ_AT.request;
        const to = index * reply.length + SEQ_AT.reply;
        replies[to] = buffer[from];
        replies[to + 1] = buffer[from + 1];
      }
      buffer.copyWithin(0, count * request.length, count * request.length + begun);
    }
    const answer = replies.subarray(0, count * reply.length);
    let sent = await conn.write(answer);
    while (sent < answer.length) sent += await conn.write(answer.subarray(sent));
  }
});

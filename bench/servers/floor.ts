/**
 * The floor: the least work with which a Deno server still answers correctly. All requests have the same size, so it
 * does not search for their ends. It counts the requests of one read, and answers them at once with prepared bytes.
 * From a request it reads only the `seq`, if there is one.
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
  // How many bytes of an incomplete request were received. The greeting gets no answer.
  let begun = -greetingBytes;
  while (true) {
    // A request must be contiguous only if its seq must be read.
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

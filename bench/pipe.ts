/**
 * The baseline for streams: a socket, written and read by simple loops. Chunks are written unchanged, and their bytes
 * are counted. Small records are encoded one by one as the frames of a stream's items, leave in batches, and are
 * decoded and counted one by one: the same codec, without calls, credit, turns, and iterators.
 */

import { DecodeStage } from "../codec/decode.ts";
import { EncodeStage } from "../codec/encode.ts";
import { type ClientMessage, type Decoded, Reply, RequestItem, type ServerMessage } from "../codec/message.ts";
import { readReply, readRequest } from "../codec/read_message.ts";
import { writeControl, writeReply } from "../codec/write_message.ts";
import { resolveLimits } from "../limits.ts";
import { record, type StreamJob } from "./stream_job.ts";

const BATCH_BYTES = 64 * 1024;
const READ_BYTES = 256 * 1024;

/** Small records are `encoded` one by one, or `prepared` as batches; with `owned`, each chunk has a new buffer. */
export type Batches = "encoded" | "prepared" | "owned";

/** Writes this many items. */
export async function writeItems(conn: Deno.Conn, job: StreamJob, items: number, batches: Batches): Promise<void> {
  if (job.chunkBytes > 0) {
    const chunk = new Uint8Array(job.chunkBytes).fill(7);
    for (let sent = 0; sent < items; sent++) await writeAll(conn, chunk);
  } else if (batches === "encoded") {
    await writeRecords(conn, job, items);
  } else {
    const frame = frameOf(job);
    const batch = new Uint8Array(Math.floor(BATCH_BYTES / frame.length) * frame.length);
    for (let at = 0; at < batch.length; at += frame.length) batch.set(frame, at);
    for (let left = items * frame.length; left > 0; left -= batch.length) await writeAll(conn, batch.subarray(0, left));
  }
}

/** Reads this many items, and returns how many arrived. */
export async function readItems(conn: Deno.Conn, job: StreamJob, items: number, batches: Batches): Promise<number> {
  if (batches === "owned") return await readChunks(conn, job, items);
  const buffer = new Uint8Array(READ_BYTES);
  const isDecoded = job.chunkBytes === 0 && batches === "encoded";
  const itemBytes = job.chunkBytes === 0 ? frameOf(job).length : job.chunkBytes;
  let arrived = 0;
  const output = { enqueue: (batch: Decoded<unknown>[]) => void (arrived += batch.length), terminate() {} };
  const read: (reader: Parameters<typeof readReply>[0]) => ServerMessage | ClientMessage | Decoded<never> =
    job.direction === "download" ? readReply : readRequest;
  const decode = new DecodeStage<unknown>(read, resolveLimits({}));
  let bytes = 0;
  while (arrived < items) {
    const readBytes = await conn.read(buffer);
    if (readBytes === null) break;
    bytes += readBytes;
    if (isDecoded) decode.transform(buffer.subarray(0, readBytes), output);
    else arrived = Math.floor(bytes / itemBytes);
  }
  return arrived;
}

/** Reads this many chunks, each into a new buffer, because a user may keep it. */
async function readChunks(conn: Deno.Conn, { chunkBytes }: StreamJob, chunks: number): Promise<number> {
  for (let arrived = 0; arrived < chunks; arrived++) {
    const chunk = new Uint8Array(chunkBytes);
    for (let filled = 0; filled < chunkBytes;) {
      const readBytes = await conn.read(chunk.subarray(filled));
      if (readBytes === null) return arrived;
      filled += readBytes;
    }
  }
  return chunks;
}

async function writeRecords(conn: Deno.Conn, job: StreamJob, items: number): Promise<void> {
  const encode = encodeStage(job);
  let chunk: Uint8Array = new Uint8Array(0);
  const output = { enqueue: (bytes: Uint8Array) => void (chunk = bytes), terminate() {} };
  for (let id = 0; id < items;) {
    for (const end = Math.min(items, id + 1_000); id < end; id++) encode.transform(messageOf(job, id), output);
    encode.flush(output);
    await writeAll(conn, chunk);
  }
}

function frameOf(job: StreamJob): Uint8Array {
  const encode = encodeStage(job);
  let frame!: Uint8Array;
  const output = { enqueue: (bytes: Uint8Array) => void (frame = bytes), terminate() {} };
  encode.transform(messageOf(job, 100_000), output);
  encode.flush(output);
  return frame;
}

type ItemMessage = Reply | RequestItem;

function messageOf({ direction }: StreamJob, id: number): ItemMessage {
  return direction === "download" ? new Reply(1, { res: record(id) }, true) : new RequestItem(1, record(id), 0);
}

function encodeStage({ direction }: StreamJob): EncodeStage<ItemMessage> {
  return new EncodeStage<ItemMessage>({
    writeMessage: (writer, message) =>
      direction === "download" ? writeReply(writer, message as Reply) : writeControl(writer, message as RequestItem),
    maxPayloadBytes: () => Infinity,
    onUnwritable(_message, error) {
      throw error;
    },
  });
}

/** Writes all bytes. */
async function writeAll(conn: Deno.Conn, bytes: Uint8Array): Promise<void> {
  for (let sent = 0; sent < bytes.length;) sent += await conn.write(sent === 0 ? bytes : bytes.subarray(sent));
}

/** Writes a count, as four bytes. */
export async function writeCount(conn: Deno.Conn, count: number): Promise<void> {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, count);
  await writeAll(conn, bytes);
}

/** Reads a count. */
export async function readCount(conn: Deno.Conn): Promise<number | undefined> {
  const bytes = new Uint8Array(4);
  for (let read = 0; read < bytes.length;) {
    const more = await conn.read(bytes.subarray(read));
    if (more === null) return undefined;
    read += more;
  }
  return new DataView(bytes.buffer).getUint32(0);
}

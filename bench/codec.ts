/**
 * Measures one codec without a socket: packline's writer and reader, msgpackr without records, or `@std/msgpack`. Each
 * runs in its own process, so that the compiler does not optimize for another's behaviour.
 *
 * In: the codec's name, the length of a time slice in ms, and the work `LIST` if it is the only one. Out: nanoseconds
 * of CPU per message, by work, as one line of JSON on stdout. The works take turns, slice by slice; the result is the
 * median. Each is verified before it is timed.
 */

import { decode as stdDecode, encode as stdEncode } from "jsr:@std/msgpack@^1.0.3";
import { Packr } from "msgpackr";
import { cpuUsage } from "node:process";
import { Reader } from "../codec/reader.ts";
import { Writer } from "../codec/writer.ts";
import { DEFAULT_LIMITS } from "../limits.ts";
import { LIST_CALL, listFor, PEOPLE } from "./data.ts";
import { FIRST_SEQ } from "./wire.ts";

/** The number of different messages, used in turn. */
const VARIANTS = 16;

const SLICES = 9;

const WARM_SLICES = 3;

/** Calls between two readings of the clock. */
const CALLS_A_LOOK = 4 * VARIANTS;

interface Codec {
  encode(value: unknown): Uint8Array;
  decode(bytes: Uint8Array): unknown;
}

function packline(): Codec {
  const writer = new Writer();
  const reader = new Reader(DEFAULT_LIMITS);
  return {
    encode(value) {
      writer.writeValue(value);
      const { bytes, start, position } = writer;
      writer.finish();
      return bytes.subarray(start, position);
    },
    decode(bytes) {
      reader.begin(bytes, 0, bytes.length);
      const value = reader.readValue();
      reader.finish();
      return value;
    },
  };
}

function msgpackr(): Codec {
  const packr = new Packr({ useRecords: false });
  return { encode: (value) => packr.pack(value), decode: (bytes) => packr.unpack(bytes) };
}

function std(): Codec {
  return {
    encode: (value) => stdEncode(value as Parameters<typeof stdEncode>[0]),
    decode: (bytes) => stdDecode(bytes),
  };
}

/** All codecs, by name. */
const CODECS = { packline, msgpackr, std };

/** Pages of results, typical replies of a service. */
const pages = Array.from({ length: VARIANTS }, (_, page) => ({
  res: Array.from({ length: 20 }, (_, row) => ({
    id: 1_000 * page + row,
    name: `record number ${20 * page + row}`,
    tags: [`tag ${row % 7}`, ["red", "green", "blue"][row % 3]],
    score: (page + row) / 8 + 0.01,
  })),
}));

/** PING requests and replies. */
const pings = Array.from({ length: VARIANTS }, (_, index) => index % 2 === 0 ? { cmd: 1 } : { res: "PONG" });

const people = PEOPLE.slice(0, VARIANTS);
const requestsOfList = people.map((person, index) => ({ cmd: "LIST", seq: FIRST_SEQ + index, ...person }));
const repliesOfList = people.map((person, index) => ({ seq: FIRST_SEQ + index, res: listFor(person) }));

/** The result of the last run, exported so that the compiler cannot remove the run. */
export let kept: unknown;

if (import.meta.main) {
  const codec = CODECS[Deno.args[0] as keyof typeof CODECS]();
  const sliceMs = Number(Deno.args[1]);
  const works: Record<string, (index: number) => unknown> = {};
  const requests = requestsOfList.map((value) => stdEncode(value));
  check(codec, requestsOfList, requests);
  works[LIST_CALL] = (index) => [codec.decode(requests[index]), codec.encode(repliesOfList[index])];
  for (const [name, values] of Deno.args[2] === LIST_CALL ? [] : [["20 records", pages], ["PING", pings]] as const) {
    const bytes = values.map((value) => stdEncode(value));
    check(codec, values, bytes);
    works[`${name}, encode`] = (index) => codec.encode(values[index]);
    works[`${name}, decode`] = (index) => codec.decode(bytes[index]);
  }
  const times: Record<string, number[]> = {};
  for (let slice = 0; slice < WARM_SLICES + SLICES; slice++) {
    for (const [work, run] of Object.entries(works)) {
      const nanoseconds = time(sliceMs, run);
      if (slice >= WARM_SLICES) (times[work] ??= []).push(nanoseconds);
    }
  }
  const middle = (numbers: number[]) => numbers.sort((a, b) => a - b)[numbers.length >> 1];
  console.log(JSON.stringify(Object.fromEntries(Object.entries(times).map(([work, all]) => [work, middle(all)]))));
}

function time(sliceMs: number, run: (index: number) => unknown): number {
  const startMs = performance.now();
  const start = cpuUsage();
  let calls = 0;
  while (performance.now() - startMs < sliceMs) {
    for (let index = 0; index < CALLS_A_LOOK; index++) kept = run(index % VARIANTS);
    calls += CALLS_A_LOOK;
  }
  const { user, system } = cpuUsage(start);
  return (user + system) / calls * 1e3;
}

function check(codec: Codec, values: readonly unknown[], bytes: Uint8Array[]): void {
  for (const [index, value] of values.entries()) {
    const wanted = JSON.stringify(value);
    for (const each of [codec.decode(bytes[index]), stdDecode(codec.encode(value).slice())]) {
      if (JSON.stringify(each) !== wanted) throw new Error(`${wanted} became ${JSON.stringify(each)}`);
    }
  }
}

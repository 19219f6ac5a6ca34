/** The header of the PROXY protocol: what is read of it, that not a byte beyond it is, and that any bytes are bounded. */

import { assert, assertEquals, assertRejects } from "@std/assert";
import { addressBytes, addressRange, addressTextOf, isInRange } from "../../transport/ip_address.ts";
import {
  type ByteSource,
  isProxyName,
  Proxies,
  ProxyHeaderError,
  readProxyHeader,
} from "../../transport/proxy_header.ts";
import { newSeed, Random } from "../support/random.ts";
import { concat } from "../support/wire.ts";

const SIGNATURE = "\r\n\r\n\0\r\nQUIT\n";

/** As many bytes as the length of a header can express. */
const MOST_BYTES = 16 + 65_535;

/** A header of version 2. */
function binary(command: number, family: number, body: Uint8Array): Uint8Array {
  return concat(latin1(SIGNATURE), Uint8Array.of(0x20 | command, family, body.length >> 8, body.length & 255), body);
}

const IPV4 = Uint8Array.of(203, 0, 113, 5, 10, 0, 0, 1, 0x12, 0x67, 0x04, 0xd3);
const IPV6 = concat(
  addressBytes("2001:db8::5") as Uint8Array,
  addressBytes("::1") as Uint8Array,
  Uint8Array.of(0x12, 0x67, 0x04, 0xd3),
);
const TLV = Uint8Array.of(0x04, 0, 3, 1, 2, 3);

function paths(source: string): Uint8Array {
  const body = new Uint8Array(216);
  body.set(latin1(source));
  return body;
}

/** Each header, and whose connection it says it is. */
const HEADERS: [Uint8Array, string | undefined][] = [
  [latin1("PROXY TCP4 203.0.113.5 10.0.0.1 4711 1235\r\n"), "203.0.113.5:4711"],
  [latin1("PROXY TCP6 2001:db8::5 ::1 4711 1235\r\n"), "[2001:db8::5]:4711"],
  [latin1("PROXY TCP6 2001:DB8:0:0:0:0:0:5 ::1 0 65535\r\n"), "[2001:db8::5]:0"],
  [latin1("PROXY UNKNOWN\r\n"), undefined],
  [latin1(`PROXY UNKNOWN ${"f".repeat(91)}\r\n`), undefined],
  [binary(1, 0x11, IPV4), "203.0.113.5:4711"],
  [binary(1, 0x11, concat(IPV4, TLV)), "203.0.113.5:4711"],
  [binary(1, 0x21, IPV6), "[2001:db8::5]:4711"],
  [binary(1, 0x21, concat(IPV6, new Uint8Array(484))), "[2001:db8::5]:4711"],
  [binary(1, 0x31, paths("/run/a b\x1b")), "unix:/run/a%20b%1b"],
  [binary(1, 0x31, paths("")), undefined],
  [binary(0, 0x11, IPV4), undefined],
  [binary(0, 0, new Uint8Array(0)), undefined],
  [binary(1, 0, TLV), undefined],
];

/** Headers with more behind their addresses than fits into one packet, such as the client's certificate. */
const LONG_HEADERS: [Uint8Array, string | undefined][] = [
  [binary(1, 0x11, concat(IPV4, new Uint8Array(1_500))), "203.0.113.5:4711"],
  [binary(1, 0x21, concat(IPV6, new Uint8Array(485))), "[2001:db8::5]:4711"],
  [binary(1, 0x31, concat(paths("/run/a"), new Uint8Array(1_024))), "unix:/run/a"],
  [binary(0, 0, new Uint8Array(2_048)), undefined],
  [binary(1, 0x11, concat(IPV4, new Uint8Array(65_535 - IPV4.length))), "203.0.113.5:4711"],
];

/** What is no header, and what is said of it. */
const REFUSED: [Uint8Array, RegExp][] = [
  [latin1("PROXY TCP4 203"), /ended before its header/],
  [latin1("\x20\x26\x81\xa3cmd\x01\n"), /does not begin with a header/],
  [latin1("GET / HTTP/1.1\r\nhost: x\r\n"), /does not begin with a header/],
  [latin1(`PROXY UNKNOWN ${"f".repeat(92)}\r\n`), /longer than 107 bytes/],
  [latin1(`PROXY TCP4 ${"1".repeat(600)}`), /longer than 107 bytes/],
  ...[
    "PROXY TCP4 203.0.113.5 10.0.0.1 4711\r\n",
    "PROXY TCP4 203.0.113.256 10.0.0.1 4711 1235\r\n",
    "PROXY TCP4 203.0.113.5 10.0.0.1 65536 1235\r\n",
    "PROXY TCP4  203.0.113.5 10.0.0.1 4711 1235\r\n",
    "PROXY TCP4 ::1 10.0.0.1 4711 1235\r\n",
    "PROXY TCP6 203.0.113.5 ::1 4711 1235\r\n",
    "PROXY UDP4 203.0.113.5 10.0.0.1 4711 1235\r\n",
    "PROXY UNKNOWNS\r\n",
    "PROXY TCP4 203.0.113.5 10.0.0.1 4711 1235\n\r\n",
  ].map((line): [Uint8Array, RegExp] => [latin1(line), /has no two addresses/]),
  [binary(2, 0x11, IPV4), /version 2 and command 2/],
  [binary(0x11, 0x11, IPV4), /version 3 and command 1/],
  [binary(1, 0x12, IPV4), /family 0x12/],
  [binary(1, 0x41, IPV4), /family 0x41/],
  [binary(1, 0x11, IPV4.subarray(1)), /take 12 bytes, and it has 11/],
  [binary(1, 0x21, new Uint8Array(1_500)).subarray(0, 1_000), /ended before its header/],
];

function latin1(text: string): Uint8Array {
  return Uint8Array.from(text, (character) => character.charCodeAt(0));
}

/** Bytes that come in pieces. */
class Pieces implements ByteSource {
  #at = 0;

  constructor(readonly bytes: Uint8Array, readonly pieceBytes: () => number) {}

  /** How many have been read. */
  get readBytes(): number {
    return this.#at;
  }

  read(into: Uint8Array): Promise<number | null> {
    const part = this.bytes.subarray(this.#at, this.#at + Math.min(into.length, this.pieceBytes()));
    into.set(part);
    this.#at += part.length;
    return Promise.resolve(part.length === 0 ? null : part.length);
  }
}

Deno.test("a header tells whose connection it is, and what comes behind it is not touched", async () => {
  for (const [header, client] of [...HEADERS, ...LONG_HEADERS]) {
    for (const size of [1, 2, 7, 10_000]) {
      const source = new Pieces(concat(header, latin1("\r\nwhat comes behind")), () => size);
      assertEquals(await readProxyHeader(source), client);
      assertEquals(source.readBytes, header.length);
    }
  }
});

Deno.test("what is no header is refused, with the reason", async () => {
  for (const [bytes, reason] of REFUSED) {
    const source = new Pieces(bytes, () => 10_000);
    const error = await assertRejects(() => readProxyHeader(source), ProxyHeaderError);
    assert(reason.test(error.message), error.message);
    assert(source.readBytes <= MOST_BYTES);
  }
});

Deno.test("a header that ends early is refused, and one without a byte is nobody's", async () => {
  for (const [header] of HEADERS) {
    for (let end = 1; end < header.length; end++) {
      await assertRejects(
        () => readProxyHeader(new Pieces(header.subarray(0, end), () => 10_000)),
        ProxyHeaderError,
        "ended before",
      );
    }
  }
  assertEquals(await readProxyHeader(new Pieces(new Uint8Array(0), () => 1)), null);
});

Deno.test("any bytes, cut anywhere, are read or refused, and no more than the longest header of them", async () => {
  const seed = newSeed();
  console.log(`seed ${seed}`);
  const random = new Random(seed);
  const outcomes = new Map<string, number>();
  for (let count = 0; count < 100_000; count++) {
    const bytes = damaged(random);
    const source = new Pieces(bytes, () => random.between(1, random.pick([1, 20, 600])));
    let outcome: string;
    try {
      const client = await readProxyHeader(source);
      outcome = client === undefined ? "its own" : client === null ? "nobody" : "a client";
      assert(!/[^\x21-\x7e]/.test(client ?? ""), client ?? "");
    } catch (error) {
      if (!(error instanceof ProxyHeaderError)) throw new Error(`of ${bytes.toHex()}`, { cause: error });
      outcome = error.message.replace(/:.*/, "");
    }
    assert(source.readBytes <= MOST_BYTES, `read ${source.readBytes} of ${bytes.toHex()}`);
    outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);
  }
  console.log(outcomes);
  assertEquals(outcomes.size, 6);
});

/** A header that is damaged in some places, or bytes that never were one. */
function damaged(random: Random): Uint8Array {
  if (random.chance(0.1)) return random.bytes(random.below(700));
  const [header] = random.pick([...HEADERS, ...REFUSED]);
  const bytes = concat(header, random.bytes(random.below(20)));
  for (let times = random.below(4); times > 0; times--) {
    const at = random.below(header.length);
    bytes[at] = random.chance(0.5) ? random.below(256) : random.pick([...latin1(" 019:.\r\nTUf")]);
  }
  return random.chance(0.1) ? bytes.subarray(0, random.below(bytes.length)) : bytes;
}

Deno.test("proxies are known by address and range, in either form, and those of unix sockets by that", () => {
  const proxies = new Proxies(["10.0.0.0/8", "127.0.0.1", "2001:db8::/33"]);
  for (const address of ["10.255.0.1", "127.0.0.1", "::ffff:10.1.1.1", "2001:db8:7fff::1"]) {
    assert(proxies.has(address), address);
  }
  for (const address of ["11.0.0.1", "127.0.0.2", "2001:db8:8000::", "::1", "::10.0.0.1", "", undefined]) {
    assert(!proxies.has(address), address);
  }
  assert(new Proxies(["unix"]).has(undefined));
  assert(new Proxies(["0.0.0.0/0"]).has("203.0.113.5") && !new Proxies(["0.0.0.0/0"]).has("::1"));
  for (const zone of ["eth0", "eth0.100", "br-lan", "veth1@if2", "12"]) {
    assert(new Proxies(["::/0"]).has(`fe80::1%${zone}`));
  }
});

Deno.test("what names no proxy", () => {
  for (
    const text of ["", "10.0.0.0/33", "10.0.0.0/", "10.0.0", "x", "::/129", "10.0.0.0/8/8", "01.0.0.0", "1.2.3.4 "]
  ) {
    assert(!isProxyName(text), text);
  }
});

Deno.test("an address has one text, whatever it came as", () => {
  const texts = [["2001:DB8:0:0::5", "2001:db8::5"], ["::ffff:1.2.3.4", "1.2.3.4"], ["::", "::"], ["1::", "1::"]];
  for (const [text, same] of texts) assertEquals(addressTextOf(addressBytes(text) as Uint8Array), same);
  const range = addressRange("192.0.2.128/25");
  assert(range !== undefined && isInRange(addressBytes("192.0.2.255") as Uint8Array, range));
});

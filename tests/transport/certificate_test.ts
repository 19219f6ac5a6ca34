/** What is read out of a certificate; whole handshakes are in `tests/production/tls_test.ts`. */

import { assertEquals } from "@std/assert";
import { identityOf } from "../../transport/certificate.ts";
import { concat, unhex } from "../support/wire.ts";

/** A value of DER, of less than 128 bytes or, by the long form, of more. */
function der(tag: number, ...parts: Uint8Array[]): Uint8Array {
  const content = concat(...parts);
  const length = content.length < 128 ? [content.length] : [0x82, content.length >> 8, content.length & 255];
  return concat(new Uint8Array([tag, ...length]), content);
}

const text = (value: string) => new TextEncoder().encode(value);
const NOTHING = der(0x30);
const CN = unhex("55 04 03");

/** A certificate of which only the subject and what stands after it matter. */
function certificate(subject: Uint8Array, ...after: Uint8Array[]) {
  const fields = [der(0xa0, der(2, unhex("02"))), der(2, unhex("01")), NOTHING, NOTHING, NOTHING, subject, NOTHING];
  return {
    raw: der(0x30, der(0x30, ...fields, ...after), NOTHING),
    valid_from: "Jan  1 00:00:00 2020 GMT",
    valid_to: "Jan  1 00:00:00 2120 GMT",
    fingerprint256: "00",
  };
}

function subjectOf(...attributes: [type: Uint8Array, value: Uint8Array][]): string | undefined {
  const names = attributes.map(([type, value]) => der(0x31, der(0x30, der(6, type), value)));
  return identityOf(certificate(der(0x30, ...names)))?.subject;
}

Deno.test("identityOf() reads text of each kind, and shows as bytes what is none", () => {
  assertEquals(subjectOf([CN, der(0x0c, text("Zoë"))]), "CN=Zoë");
  assertEquals(subjectOf([CN, der(0x13, text("ada"))]), "CN=ada");
  assertEquals(subjectOf([CN, der(0x1e, unhex("00 61 01 7e"))]), "CN=až");
  assertEquals(subjectOf([CN, der(0x0c, unhex("ff 41"))]), "CN=#0c02ff41", "not UTF-8");
  assertEquals(subjectOf([CN, der(0x14, text("ada"))]), "CN=#1403616461", "a kind whose letters nobody agrees on");
  assertEquals(subjectOf([CN, der(0x0c)]), "CN=");
  assertEquals(subjectOf([CN, der(0x0c, text("x".repeat(300)))]), `CN=${"x".repeat(300)}`);
});

Deno.test("identityOf() names an attribute that it does not know by its number, and no text can look like that", () => {
  assertEquals(
    subjectOf([unhex("2b 06 01 04 01 82 37 14 02 03"), der(0x0c, text("a"))]),
    "1.3.6.1.4.1.311.20.2.3=#0c0161",
  );
  assertEquals(subjectOf([unhex("88 37 01"), der(0x0c, text("a"))]), "2.999.1=#0c0161");
  assertEquals(subjectOf([CN, der(0x0c, text("#0c0161"))]), "CN=\\#0c0161");
  const uuid = unhex("69 83 ff ff ff ff ff ff ff ff ff ff ff ff ff ff ff ff ff 7e"); // 2.25 and 2^128 - 2
  assertEquals(subjectOf([uuid, der(0x0c, text("a"))]), "2.25.340282366920938463463374607431768211454=#0c0161");
  assertEquals(subjectOf([unhex("55 04 80 03"), der(0x0c, text("ada"))]), undefined, "it looks like CN");
});

Deno.test("identityOf() is undefined for a subject that is not one, because it could look like that of another client", () => {
  const [type, ada] = [der(6, CN), der(0x0c, text("ada"))];
  const subjects: Uint8Array[] = [
    der(0x30, der(0x31, der(0x30, type, ada, der(0x0c, text("root"))))),
    der(0x30, der(0x31, der(0x30, der(6, concat(CN, unhex("81"))), ada))),
    der(0x30, der(0x31, der(0x30, der(4, CN), ada))),
    der(0x30, der(0x31, der(0x31, type, ada))),
    der(0x30, der(0x30, der(0x30, type, ada))),
    der(0x30, der(0x31), der(0x31, der(0x30, type, ada))),
    der(0x30, der(0x31, der(0x30, type))),
  ];
  for (const subject of subjects) assertEquals(identityOf(certificate(subject)), undefined);
});

Deno.test("identityOf() is undefined for what nobody can tell: no certificate, no DER, another day", () => {
  const good = certificate(der(0x30));
  assertEquals(identityOf(good)?.subject, "", "a certificate may have alternative names alone");
  assertEquals(identityOf({ ...good, raw: undefined }), undefined);
  for (let length = 0; length < good.raw.length - 3; length++) {
    assertEquals(identityOf({ ...good, raw: good.raw.subarray(0, length) }), undefined, `cut at ${length}`);
  }
  assertEquals(identityOf({ ...good, valid_to: "Jan  1 00:00:00 2021 GMT" }), undefined);
  assertEquals(identityOf({ ...good, valid_from: "Jan  1 00:00:00 2119 GMT" }), undefined);
  assertEquals(identityOf({ ...good, valid_from: "some day" }), undefined);
});

Deno.test("identityOf() reads alternative names, whatever stands between the subject and them", () => {
  const names = der(
    0x30,
    der(0x82, text("ada.example")),
    der(0x86, text("spiffe://example.org/ada")),
    der(0x81, text("a@b, DNS:root")),
    der(0x81, unhex("ef bb bf 61")),
    der(0x82, unhex("ff 61")),
    der(0x82, text("#ff61")),
    der(0x87, unhex("7f 00 00 01")),
    der(0x88, unhex("2a 03")),
  );
  const extension = (identifier: string, ...rest: Uint8Array[]) => der(0x30, der(6, unhex(identifier)), ...rest);
  const after = [
    der(0x81, unhex("00 01")),
    der(
      0xa3,
      der(
        0x30,
        extension("55 1d 0f", der(4, unhex("03 01 00"))),
        extension("55 1d 11", der(1, unhex("ff")), der(4, names)),
      ),
    ),
  ];
  assertEquals(identityOf(certificate(der(0x30), ...after))?.alternativeNames, [
    "DNS:ada.example",
    "URI:spiffe://example.org/ada",
    "email:a@b\\, DNS:root",
    "email:\\ef\\bb\\bfa",
    "DNS:#ff61",
    "DNS:\\#ff61",
    "IP:7f000001",
  ]);
  assertEquals(identityOf(certificate(der(0x30)))?.alternativeNames, []);
});

/** `codec/printable.ts`: text of a peer's that is fit for a terminal or a log, wherever it is shown. */

import { assertEquals, assertNotMatch } from "@std/assert";
import { printable } from "../../codec/printable.ts";
import { frame, runClient, Scripted } from "../cli/scripts.ts";

/** A character of each kind that acts on a terminal, or hides in it. */
const UNFIT = [
  ...["\x00", "\t", "\n", "\x1b", "\x7f", "\x85", "\x9f"], // controls
  ...["\u2028", "\u2029"], // line and paragraph
  ...["\u061c", "\u200e", "\u200f", "\u202a", "\u202e", "\u2066", "\u2069"], // direction
  ...["\u00ad", "\u200b", "\u200d", "\u2060", "\ufeff", "\u{e0041}"], // format
  ...["\u034f", "\u115f", "\u3164", "\uffa0", "\ufe0f", "\u{e0100}"], // drawn as nothing
  ...["\ue000", "\u{10ffff}", "\uffff", "\u0378", "\ud800", "\udfff"], // private, unassigned, half a pair
];

Deno.test("printable() escapes what acts on a terminal or cannot be seen, so that JSON reads it back", () => {
  for (const character of UNFIT) {
    const shown = printable(`a${character}b`);
    assertEquals(shown, shown.replaceAll(/[^ -~]/g, ""), JSON.stringify(character));
    assertEquals(JSON.parse(`"${shown}"`), `a${character}b`);
  }
  assertEquals(printable("a\tb\r\n\x9f\u202e\u{e0041}"), "a\\u0009b\\u000d\\u000a\\u009f\\u202e\\udb40\\udc41");
});

Deno.test("printable() leaves every other text as it is", () => {
  for (const text of ["Ada Lovelace, naïve 東京 🚀 \u00a0\\", "שלום مرحبا", "e\u0301 ﷽ ½", ""]) {
    assertEquals(printable(text), text);
  }
});

Deno.test("the client shows nothing of a peer's that could act on the terminal or hide in it", async () => {
  const text = UNFIT.filter((character) => character.isWellFormed()).join("");
  const info = { commands: [{ name: `A${text}`, number: 1, params: [text], summary: text, stream: false }] };
  const counts = { calls: 1, errors: { [text]: 1 }, inFlight: 0, totalMs: 1, maxMs: 1, durations: [] };
  const statistics = {
    ...{ uptime: 1, connections: {}, inFlight: 0, bytes: {}, refused: {}, lateReplies: 0 },
    commands: { [`A${text}`]: counts },
  };
  const shows: [args: string[], reply: unknown][] = [
    [["GREET"], { res: text, [text]: text }],
    [["GREET"], { err: text, msg: text, data: text }],
    [["GREET", "--json"], { res: { [text]: [text] } }],
    [["GREET", "--hex"], { res: text, [text]: 1 }],
    [["GREET", "--repeat", "1"], { err: text, msg: text }],
    [["--list"], { res: info }],
    [["STATS"], { res: statistics }],
    [["STATS", "--format", "prometheus"], { res: statistics }],
  ];
  await Promise.all(shows.map(async ([args, reply]) => {
    await using server = new Scripted(frame(reply));
    const { stdout, stderr } = await runClient(server.port, ...args);
    assertNotMatch((stdout + stderr).replaceAll("\n", ""), /[\p{C}\p{Zl}\p{Zp}\p{DI}]/u, args.join(" "));
    assertEquals(stdout.includes("\\u200b"), true, args.join(" "));
  }));
});

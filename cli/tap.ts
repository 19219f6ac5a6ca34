/**
 * `--tap`: shows the calls of a server as they end, a line each, until Ctrl-C.
 *
 * In: flags, and a command's name if only its calls are wanted. Out: lines on stdout, for people or as JSON, also for
 * the number of calls that were left out; a note on stderr at the start; the exit code: 0 if the reader of the output
 * leaves, 1 if the server refuses. Refused, by an `RpcError`: a server that cannot be reached or disconnects, and an
 * invalid report.
 */

import { connect } from "../client/connect.ts";
import { word } from "../codec/printable.ts";
import { isReceived, RpcError } from "../errors.ts";
import type { TappedCall, TapReport } from "../handlers/tap.ts";
import type { Transport } from "../transport/transport.ts";
import { toJson } from "./json.ts";
import { complain, note, print } from "./output.ts";
import { padded, textWidth } from "./text_width.ts";

/**
 * How many reports may be on their way. If the output is slow, the server leaves out calls and counts them, so that
 * they do not pile up here.
 */
const CREDIT = 4;

/** Without retries, an error is shown at once. */
const NO_RETRIES = { perCall: 0, perSecond: 0 };

/** The first and the largest widths of address, command and code. Names from peers may be longer than a line. */
const FIRST_WIDTHS = [21, 12, 9];
const MAX_WIDTHS = [48, 24, 24];

/** What to show, and how to reach the server. */
interface TapOptions {
  /** The command whose calls are wanted; `undefined` means all. */
  readonly command: string | undefined;
  /** The shortest duration of a call to show, in milliseconds. */
  readonly slowMs: number | undefined;
  readonly json: boolean | undefined;
  /** The time limit in seconds; no limit if `undefined`. */
  readonly timeout: number | undefined;
  readonly meta: Record<string, string> | undefined;
  readonly maxPayloadBytes: number | undefined;
  /** The server's name for people. */
  readonly address: string;
  readonly dial: (signal: AbortSignal) => Promise<Transport>;
}

/** Shows calls; resolves to the exit code. */
export async function tap(options: TapOptions): Promise<number> {
  const { command, slowMs, json, timeout = Infinity, meta, maxPayloadBytes, address, dial } = options;
  const lines = json ? jsonLines : plainLines();
  try {
    await using client = await connect({ dial, maxPayloadBytes, retryBudget: NO_RETRIES });
    const params = { ...command !== undefined && { command }, ...slowMs !== undefined && { slow: slowMs } };
    const reports = client.stream("TAP", params, { credit: CREDIT, timeoutMs: timeout * 1000, meta });
    let isFirst = true;
    for await (const item of reports) {
      const report = reportOf(item);
      if (isFirst) await note(beginning(address, report));
      isFirst = false;
      const shown = lines(report);
      if (shown.length > 0 && !await print(shown.join("\n"))) return 0;
    }
    throw new RpcError("CONNECTION_LOST", "the server has ended the tap");
  } catch (error) {
    if (!(error instanceof RpcError && isReceived(error) && error.code !== "GOING_AWAY")) throw error;
    const { err, msg = err } = error.toJSON();
    await complain(err === "CMD_NOT_FOUND" ? "the server does not let its calls be watched: start it with --tap" : msg);
    return 1;
  }
}

function beginning(address: string, { worker }: TapReport): string {
  const where = worker === undefined ? address : `${address}, worker ${worker} only: the others are not seen`;
  return `packline: watching the calls of ${where}; Ctrl-C ends it`;
}

/** A checked report: a server may have its own command of this name. */
function reportOf(item: unknown): TapReport {
  const { calls, leftOut, worker } = (item ?? {}) as Partial<TapReport>;
  const isReport = Array.isArray(calls) && calls.every(isCall) && typeof leftOut === "number" &&
    (worker === undefined || typeof worker === "number");
  if (!isReport) throw new RpcError("BAD_REPLY", "the server's TAP is another command");
  return { calls, leftOut, worker };
}

function isCall(value: unknown): value is TappedCall {
  const { time, peer, command, code, ms, receivedBytes, sentBytes } = (value ?? {}) as Partial<TappedCall>;
  const texts = [time, peer, command ?? "", code ?? ""];
  return texts.every((text) => typeof text === "string") &&
    [ms, receivedBytes, sentBytes].every((number) => typeof number === "number");
}

/** A JSON object for each call. */
export function jsonLines({ calls, leftOut }: TapReport): string[] {
  const lines = calls.map(({ time, peer, command, code, ms, receivedBytes, sentBytes }) =>
    toJson({ time, peer, command, code, ms, receivedBytes, sentBytes })
  );
  return leftOut === 0 ? lines : [...lines, toJson({ leftOut })];
}

/** Makes lines for people; the columns become wider as needed. */
export function plainLines(): (report: TapReport) => string[] {
  const widths = [...FIRST_WIDTHS];
  return ({ calls, leftOut }) => {
    const lines = calls.map((call) => {
      const texts = [word(call.peer), word(call.command, "-"), word(call.code, "ok")];
      const cells = texts.map((text, column) => {
        widths[column] = Math.max(widths[column], Math.min(textWidth(text), MAX_WIDTHS[column]));
        return padded(text, widths[column]);
      });
      const numbers = [`${call.ms.toFixed(1).padStart(9)} ms`, `${call.receivedBytes} in`.padStart(10)];
      return [word(call.time), ...cells, ...numbers, `${call.sentBytes} out`.padStart(11)].join(" ");
    });
    return leftOut === 0 ? lines : [...lines, `${leftOut.toLocaleString("en")} left out`];
  };
}

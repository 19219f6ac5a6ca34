/**
 * The state of a call that is not answered at once. Other calls do not need this memory. In: nothing. Out: the state.
 * Refused: nothing.
 */

import type { RpcError } from "../errors.ts";
import type { CreditWindow } from "../session/item_sender.ts";
import type { CallSpan } from "../session/telemetry.ts";
import type { CallerItems } from "./caller_items.ts";

/** What one call has beyond its request and its outcome. */
export class Lasting {
  /** The caller's credit for the reply stream. */
  credit: CreditWindow | undefined = undefined;
  /** The caller's stream. */
  items: CallerItems | undefined = undefined;
  /** The bytes of the frames of the items that were sent. */
  itemBytes = 0;
  abortReason: RpcError | undefined = undefined;
  abortController: AbortController | undefined = undefined;
  drainController: AbortController | undefined = undefined;
  /** Ends the stream of the handler. */
  endStream: (() => void) | undefined = undefined;
  span: CallSpan | undefined = undefined;
  /** Resolves at the end of the call with its code, for middleware that asks for it. */
  end: PromiseWithResolvers<string | undefined> | undefined = undefined;
}

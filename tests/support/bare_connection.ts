/** A minimal connection for tests of single stages: only what a stage sees of one. */

import { type ConnectionView, OutputBuffer } from "../../session/connection.ts";

/** Open until a stage ends it. */
export class BareConnection implements ConnectionView {
  isOpen = true;
  readonly isReading = true;
  readonly peer = "test";
  readonly certificate = undefined;
  readonly headers = undefined;
  aliveMs = Infinity;
  readonly output: OutputBuffer;

  /** @param maxQueuedBytes From where on its output is full. */
  constructor(maxQueuedBytes = Infinity) {
    this.output = new OutputBuffer(maxQueuedBytes);
  }

  end(): void {
    this.isOpen = false;
  }

  close(): void {
    this.isOpen = false;
  }
}

/** What the steps between bytes and bytes have in common: each works by itself, in a `TransformStream`, or joined with others. */

/** What a stage can do with its output; a `TransformStream`'s controller can, and so can the next stage itself. */
export interface Output<Chunk> {
  /** Hands a chunk on. */
  enqueue(chunk: Chunk): void;
  /** Ends the output behind what was handed on, and refuses further input. */
  terminate(): void;
}

/** A stage: a transformer that needs no more of its controller than an {@linkcode Output}. */
export interface Stage<In, Out> {
  start?(output: Output<Out>): void;
  transform(chunk: In, output: Output<Out>): void | Promise<void>;
  flush?(output: Output<Out>): void | Promise<void>;
  cancel?(reason: unknown): void | Promise<void>;
}

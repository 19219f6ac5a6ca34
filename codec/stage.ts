/** The interface of the pipeline stages. Each works alone in a `TransformStream`, or joined with others. */

/** The output of a stage: the controller of a `TransformStream`, or the next stage. */
export interface Output<Chunk> {
  /** Passes a chunk on. */
  enqueue(chunk: Chunk): void;
  /** Ends the output after what was passed on, and rejects further input. */
  terminate(): void;
}

/** A stage: a transformer that needs only an {@linkcode Output} as its controller. */
export interface Stage<In, Out> {
  start?(output: Output<Out>): void;
  transform(chunk: In, output: Output<Out>): void | Promise<void>;
  flush?(output: Output<Out>): void | Promise<void>;
  cancel?(reason: unknown): void | Promise<void>;
}

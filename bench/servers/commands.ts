/** packline's commands in the works, as a user would write them. */

import { z } from "zod";
import { DELAY } from "../../handlers/built_ins/delay.ts";
import { command } from "../../handlers/command.ts";
import { listFor, TEXTS } from "../data.ts";

export const GET = command(({ key }: { key: string }) => TEXTS.get(key));

const GET_ASYNC = command(async ({ key }: { key: string }) => {
  await null;
  return TEXTS.get(key);
});

const LIST = command({
  schema: z.object({
    id: z.number(),
    name: z.string(),
    email: z.string(),
    city: z.string(),
    age: z.number(),
    score: z.number(),
    active: z.boolean(),
    created: z.number(),
  }),
  handler: listFor,
});

const ECHO = command({ number: 16, handler: ({ data }: { data: Uint8Array }) => data });

const WATCH = command(async function* () {
  for (let number = 0;; number++) yield number;
});

export const commands = { GET, GET_ASYNC, LIST, ECHO, DELAY, WATCH };

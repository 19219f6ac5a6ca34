/** A thread that runs parts of a fuzz. In: plans, one message each. Out: their reports. */

/// <reference lib="deno.worker" />

import { fuzz } from "./fuzz.ts";

self.onmessage = async ({ data }) => self.postMessage(await fuzz(data));

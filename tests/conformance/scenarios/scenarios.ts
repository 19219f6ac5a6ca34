/** All scenarios, in the order of the levels. */

import { BY_NUMBER } from "./by_number.ts";
import { IN_ORDER } from "./in_order.ts";
import { KNOWING } from "./knowing.ts";
import type { Scenario } from "./scenario.ts";
import { STREAMS } from "./streams.ts";

export const SCENARIOS: readonly Scenario[] = [...IN_ORDER, ...BY_NUMBER, ...STREAMS, ...KNOWING];

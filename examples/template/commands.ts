/** The commands of the service. To add one, add a property: its name is the name of the command. */

import { command } from "@packline/packline";

export const commands = {
  GREET: command({
    summary: "Greets by name",
    params: ["name"],
    handler: ({ name }: { name: string }) => `Hello, ${name}!`,
  }),

  COUNT: command({
    summary: "Counts, one item at a time",
    params: ["to"],
    async *handler({ to }: { to: number }) {
      for (let n = 1; n <= to; n++) yield n;
    },
  }),
};

/**
 * Several hosts on one machine: a network namespace each, joined by a switch that can drop packets silently.
 *
 * In: how many hosts a test wants, and what becomes of their packets. Out: programs that run on them, each a child
 * process. Refused: a machine that does not permit it, with the reason. Needs Linux, `unshare` and `nsenter`
 * (util-linux), `ip` and `tc` (iproute2); not root, if the system lets users have namespaces.
 *
 * Namespaces have no names here, and no network of the machine's own is touched. Each lasts as long as the process that
 * holds it; that ends with its stdin, so that nothing is left, even of a test that was killed.
 */

/** The address of each host, by the order in which they are added. */
const addressOf = (number: number) => `10.0.0.${number}`;

const SWITCH = "switch";

/** Drops every IP packet: "return 2", which is TC_ACT_SHOT. Address resolution still works, as across a router. */
const DROP_ALL = ["protocol", "ip", "bpf", "direct-action", "bytecode", "1,6 0 0 2"];

/** Which packets of a host are dropped, as seen from the host. */
export type Direction = "incoming" | "outgoing";

/** Runs a command to its end, behind what takes it to its place. */
async function runToEnd(enter: string[], command: string[]): Promise<void> {
  const [program, ...args] = [...enter, ...command];
  const { success, stderr } = await new Deno.Command(program, { args, stdin: "null" }).output();
  if (!success) throw new Error(`${command.join(" ")}: ${new TextDecoder().decode(stderr).trim()}`);
}

/** A network namespace. */
class Namespace implements AsyncDisposable {
  readonly #holder: Deno.ChildProcess;
  readonly #input: WritableStreamDefaultWriter<Uint8Array>;

  private constructor(holder: Deno.ChildProcess) {
    this.#holder = holder;
    this.#input = holder.stdin.getWriter();
  }

  /** @param unshare The command line that enters a new namespace, up to the program that runs there. */
  static async make(...unshare: string[]): Promise<Namespace> {
    const [command, ...args] = [...unshare, "sh", "-c", "echo made; exec cat"];
    const holder = new Deno.Command(command, { args, stdin: "piped", stdout: "piped", stderr: "piped" }).spawn();
    const namespace = new Namespace(holder);
    const stdout = holder.stdout.getReader();
    const { done } = await stdout.read();
    await stdout.cancel();
    if (!done) {
      await holder.stderr.cancel();
      return namespace;
    }
    const reason = (await holder.stderr.text()).trim();
    await namespace[Symbol.asyncDispose]();
    throw new Error(`${unshare.join(" ")}: ${reason}`);
  }

  /** The process that holds it, as `ip link … netns` names it. */
  get holder(): number {
    return this.#holder.pid;
  }

  /** The command line that runs another one in here. */
  enter(...kinds: string[]): string[] {
    return ["nsenter", "--target", String(this.holder), "--user", "--preserve-credentials", ...kinds];
  }

  /** Runs a command in here, to its end. */
  async run(...command: string[]): Promise<void> {
    await runToEnd(this.enter("--net"), command);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#input.close().catch(() => {}); // it may have ended by itself
    await this.#holder.status;
  }
}

/** A switch, and the hosts that are plugged into it. */
export class Network implements AsyncDisposable {
  readonly #switch: Namespace;
  readonly #hosts: Namespace[] = [];

  private constructor(switchSpace: Namespace) {
    this.#switch = switchSpace;
  }

  /** Makes a network without hosts. */
  static async make(): Promise<Network> {
    const network = new Network(await Namespace.make("unshare", "--user", "--map-root-user", "--net"));
    try {
      await network.#switch.run("ip", "link", "add", SWITCH, "type", "bridge");
      await network.#switch.run("ip", "link", "set", SWITCH, "up");
      return network;
    } catch (error) {
      await network[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** Why this machine permits no such network; `undefined` if it does. */
  static async problem(): Promise<string | undefined> {
    try {
      await using network = await Network.make();
      const host = await network.addHost();
      await host.drop("incoming");
      await host.run("true");
    } catch (error) {
      return error instanceof Error ? error.message : String(error);
    }
  }

  /** Plugs in one more host. */
  async addHost(): Promise<Host> {
    const space = await Namespace.make(...this.#switch.enter(), "unshare", "--net");
    const number = this.#hosts.push(space);
    const port = `port${number}`;
    const peer = ["peer", "name", "eth0", "netns", String(space.holder)];
    await this.#switch.run("ip", "link", "add", port, "type", "veth", ...peer);
    await this.#switch.run("ip", "link", "set", port, "up", "master", SWITCH);
    await this.#switch.run("tc", "qdisc", "add", "dev", port, "clsact");
    await space.run("ip", "address", "add", `${addressOf(number)}/24`, "dev", "eth0");
    await space.run("ip", "link", "set", "lo", "up");
    await space.run("ip", "link", "set", "eth0", "up");
    return new Host(addressOf(number), space, this.#switch, port);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const space of [...this.#hosts, this.#switch]) await space[Symbol.asyncDispose]();
  }
}

/** A host of a network, with an address of its own. */
export class Host {
  readonly #space: Namespace;
  readonly #switch: Namespace;
  readonly #port: string;

  constructor(readonly address: string, space: Namespace, switchSpace: Namespace, port: string) {
    this.#space = space;
    this.#switch = switchSpace;
    this.#port = port;
  }

  /** The command line that runs another one on this host; it is killed if this process ends without having ended it. */
  command(...command: string[]): string[] {
    return [...this.#space.enter("--net"), "setpriv", "--pdeathsig", "KILL", ...command];
  }

  /** Runs a command on this host, to its end. */
  async run(...command: string[]): Promise<void> {
    await runToEnd(this.command(), command);
  }

  /** Sets something of the host's kernel, such as `net.ipv4.tcp_migrate_req`. */
  async setKernel(name: string, value: number): Promise<void> {
    await this.run("sysctl", "--quiet", `${name}=${value}`);
  }

  /** Drops all packets of a direction, without a word to anyone. */
  async drop(direction: Direction): Promise<void> {
    await this.#switch.run("tc", "filter", "add", "dev", this.#port, hook(direction), ...DROP_ALL);
  }

  /** Lets all packets pass again. */
  async heal(): Promise<void> {
    for (const direction of ["incoming", "outgoing"] as const) {
      await this.#switch.run("tc", "filter", "delete", "dev", this.#port, hook(direction));
    }
  }

  /** Takes the network card out, for good. */
  async removeLink(): Promise<void> {
    await this.run("ip", "link", "delete", "eth0");
  }
}

/** Where the switch meets the packets: what goes to a host leaves the switch. */
function hook(direction: Direction): string {
  return direction === "incoming" ? "egress" : "ingress";
}

/** A test on several hosts; skipped where the machine does not permit them, and the reason is printed. */
export function testOnNetwork(name: string, run: (network: Network) => Promise<void>): void {
  if (problem !== undefined) console.log(`skipped: ${name}: no network namespaces here: ${problem}`);
  Deno.test({
    name,
    ignore: problem !== undefined,
    async fn() {
      await using network = await Network.make();
      await run(network);
    },
  });
}

const problem = await Network.problem();

/**
 * Programs of other projects that the tests in this folder run, as child processes.
 *
 * In: what a test needs, by the names of Debian packages. Out: a test that runs where all of it is installed and is
 * skipped elsewhere, with the reason in one line; a program that is up, on a port that was free. Refused: a program
 * that ends instead of coming up, with its own words as the error. What a test starts ends with it; nothing else is
 * touched.
 */

/** The root of the checkout, with a slash at its end. */
export const root = new URL("../../", import.meta.url).pathname;

/** How a package is known to be there: by a program that starts, or by a file. */
const PACKAGES = {
  "nginx": () => find("nginx") !== undefined,
  "libnginx-mod-http-lua": () => exists("/usr/lib/nginx/modules/ngx_http_lua_module.so"),
  "libnginx-mod-stream": () => exists("/usr/lib/nginx/modules/ngx_stream_module.so"),
  "luajit2": () => find("luajit") !== undefined,
  "lua-messagepack": () => exists("/usr/share/lua/5.1/MessagePack.lua"),
  "lua-cjson": () => existsForLua("cjson.so"),
  "lua-socket": () => existsForLua("socket/core.so"),
  "haproxy": () => find("haproxy") !== undefined,
  "chromium": () => find("chromium") !== undefined,
  "curl": () => find("curl") !== undefined,
  "golang-go": () => find("go") !== undefined,
  "python3": () => find("python3") !== undefined,
  "python3-msgpack": () => pythonWith("msgpack") !== undefined,
  "mypy": () => find("mypy") !== undefined,
  "openssl": () => find("openssl") !== undefined,
  "prometheus": () => find("prometheus") !== undefined && find("promtool") !== undefined,
  "systemd": () => find("systemd-analyze") !== undefined,
  "npm": () => find("npm") !== undefined,
  "tshark": () => find("tshark") !== undefined,
};

/** When a test gives up on what a program is to say: it takes a fraction of that. */
const PATIENCE_MS = 30_000;

/** A Debian package that a test can need. */
export type Package = keyof typeof PACKAGES;

const installed = new Map<Package, boolean>();

/**
 * A test that needs programs of others.
 *
 * @param packages What it needs.
 * @param name What holds.
 * @param run The test.
 */
export function testWith(
  packages: readonly Package[],
  name: string,
  run: (t: Deno.TestContext) => Promise<void>,
): void {
  const missing = packages.filter((each) => {
    if (!installed.has(each)) installed.set(each, PACKAGES[each]());
    return !installed.get(each);
  });
  if (missing.length > 0) console.log(`skipped: ${name}: to run it, install ${missing.join(" ")} (Debian's names)`);
  Deno.test({ name, ignore: missing.length > 0, fn: run });
}

/** By which name a program starts here: some are kept where only an administrator's shell looks. */
function find(program: string): string | undefined {
  return [program, `/usr/sbin/${program}`].find((name) => {
    try {
      new Deno.Command(name, { args: ["-v"], stdin: "null", stdout: "null", stderr: "null" }).outputSync();
      return true;
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) return false;
      throw error;
    }
  });
}

/**
 * A Python that has a module. Debian's packages are for Debian's own Python, which need not be the first of the path.
 *
 * @param module The name that is imported.
 * @returns The program; `undefined` if no Python here has it.
 */
export function pythonWith(module: string): string | undefined {
  return ["python3", "/usr/bin/python3"].find((name) => {
    const args = ["-c", `import ${module}`];
    return find(name) &&
      new Deno.Command(name, { args, stdin: "null", stdout: "null", stderr: "null" }).outputSync().success;
  });
}

function exists(path: string): boolean {
  try {
    Deno.statSync(path);
    return true;
  } catch {
    return false;
  }
}

/** Compiled modules of Lua 5.1 are in a folder that is named after the machine's architecture. */
function existsForLua(name: string): boolean {
  return exists("/usr/lib") &&
    [...Deno.readDirSync("/usr/lib")].some((folder) => exists(`/usr/lib/${folder.name}/lua/5.1/${name}`));
}

/** Runs a program to its end. */
export async function run(program: string, args: string[], options: Deno.CommandOptions = {}): Promise<
  { code: number; text: string }
> {
  const command = new Deno.Command(find(program) ?? program, { stdin: "null", ...options, args });
  const { code, stdout, stderr } = await command.output();
  return { code, text: new TextDecoder().decode(stdout) + new TextDecoder().decode(stderr) };
}

/** What a program may be started with. */
export type ProgramOptions = Pick<Deno.CommandOptions, "cwd" | "env">;

/** A program that runs until the test ends it. */
export class Program implements AsyncDisposable {
  /** What it has said so far, on stdout and stderr. */
  said = "";
  readonly #child: Deno.ChildProcess;
  readonly #reading: Promise<unknown>;
  readonly #input: WritableStreamDefaultWriter<Uint8Array>;
  #ended = false;
  #wake = () => {};

  private constructor(child: Deno.ChildProcess) {
    this.#child = child;
    this.#input = child.stdin.getWriter();
    this.#reading = Promise.all([this.#listen(child.stdout), this.#listen(child.stderr)]).then(() => {
      this.#ended = true;
      this.#wake();
    });
  }

  /**
   * Starts a program.
   *
   * @param program Its name.
   * @param args Its arguments.
   * @param up What it says when it is up.
   * @param options What differs from what this process has: its folder, its environment.
   * @returns The program, up.
   */
  static async start(program: string, args: string[], up: RegExp, options?: ProgramOptions): Promise<Program> {
    const piped = { stdin: "piped", stdout: "piped", stderr: "piped" } as const;
    const started = new Program(new Deno.Command(find(program) ?? program, { ...options, ...piped, args }).spawn());
    try {
      await started.hear(up);
      return started;
    } catch (error) {
      await started[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** What it said, once it has; an error if it ends before, or says nothing of it for too long. */
  async hear(what: RegExp): Promise<RegExpMatchArray> {
    let patient = true;
    const patience = setTimeout(() => {
      patient = false;
      this.#wake();
    }, PATIENCE_MS);
    try {
      while (true) {
        const match = this.said.match(what);
        if (match) return match;
        if (this.#ended || !patient) {
          throw new Error(`the program ${this.#ended ? "ended, and did" : "did"} not say ${what} but:\n${this.said}`);
        }
        await new Promise<void>((resolve) => this.#wake = resolve);
      }
    } finally {
      clearTimeout(patience);
    }
  }

  /** Says something to it, and hears the next line. Not for a program that speaks unasked. */
  async ask(line: string): Promise<string> {
    this.said = "";
    await this.say(line);
    return (await this.hear(/^(.*)\n/))[1];
  }

  /** Says something to it, and no more. */
  async say(line: string): Promise<void> {
    await this.#input.write(new TextEncoder().encode(`${line}\n`));
  }

  /** Sends a signal. */
  kill(signal: Deno.Signal): void {
    this.#child.kill(signal);
  }

  /** Its process. */
  get pid(): number {
    return this.#child.pid;
  }

  /** How it ended. */
  get status(): Promise<Deno.CommandStatus> {
    return this.#child.status;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    try {
      this.#child.kill("SIGTERM");
    } catch {
      // It has ended already.
    }
    await this.#child.status;
    await this.#reading;
    await this.#input.close().catch(() => {});
  }

  async #listen(output: ReadableStream<Uint8Array>): Promise<void> {
    for await (const text of output.pipeThrough(new TextDecoderStream())) {
      this.said += text;
      this.#wake();
    }
  }
}

/** The server of this checkout, as a program. */
export async function startServer(...flags: string[]): Promise<Program & { port: number }> {
  const args = ["run", "--no-prompt", "--allow-net=127.0.0.1", `${root}server.ts`, "--port", "0", ...flags];
  const program = await Program.start(Deno.execPath(), args, /listening on .*:\d+\n/);
  const [, port] = await program.hear(/:(\d+)\n/);
  return Object.assign(program, { port: Number(port) });
}

/**
 * Starts what cannot choose a free port itself. Somebody else may take the port in between: then it is tried again.
 *
 * @param start Starts it on a port.
 */
export async function onFreePort<T>(start: (port: number) => Promise<T>): Promise<T> {
  for (let tries = 1;; tries++) {
    const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
    const { port } = listener.addr;
    listener.close();
    try {
      return await start(port);
    } catch (error) {
      if (tries === 3 || !/address (already )?in use/i.test(String(error))) throw error;
    }
  }
}

/** nginx with a configuration, its files in a folder of its own. */
export async function startNginx(folder: Folder, config: string): Promise<Program> {
  await folder.write("nginx.conf", config);
  const args = ["-p", folder.path, "-c", `${folder.path}/nginx.conf`, "-e", "stderr", "-g", NGINX_SETTINGS];
  return await Program.start("nginx", args, /start worker process \d+/);
}

const NGINX_SETTINGS = "daemon off; error_log stderr notice;";

/** HAProxy with a configuration. It stays in the foreground, and says when it is up. */
export async function startHaproxy(folder: Folder, config: string): Promise<Program> {
  await folder.write("haproxy.cfg", config);
  return await Program.start("haproxy", ["-W", "-db", "-f", `${folder.path}/haproxy.cfg`], /Loading success/);
}

/** A folder that lasts as long as a test. */
export class Folder implements AsyncDisposable {
  private constructor(readonly path: string) {}

  static async make(): Promise<Folder> {
    const path = await Deno.makeTempDir({ prefix: "packline-" });
    await Deno.chmod(path, 0o755); // workers of nginx are somebody else
    return new Folder(path);
  }

  write(name: string, text: string): Promise<void> {
    return Deno.writeTextFile(`${this.path}/${name}`, text);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Deno.remove(this.path, { recursive: true });
  }
}

/** A file of `examples/`, with some of its text replaced; each of it must be there. */
export async function example(name: string, replacements: Record<string, string> = {}): Promise<string> {
  let text = await Deno.readTextFile(`${root}examples/${name}`);
  for (const [from, to] of Object.entries(replacements)) {
    if (!text.includes(from)) throw new Error(`examples/${name} has no "${from}"`);
    text = text.replaceAll(from, to);
  }
  return text;
}

/** The processes that another one has started. By a shell: the runtime itself would have to be allowed everything. */
export async function childrenOf(pid: number): Promise<number[]> {
  const { text } = await run("sh", ["-c", `cat /proc/${pid}/task/*/children`]);
  return (text.match(/\d+/g) ?? []).map(Number);
}

/**
 * Headless Chromium, driven over its DevTools WebSocket.
 *
 * In: a page. Out: what its expressions give; events of the browser. Each wait has an end. Refused: a page that throws, with its words.
 */

import { Folder, Program } from "../production/programs.ts";

/** When a test gives up on the browser. */
const PATIENCE_MS = 30_000;

type Fields = Record<string, unknown>;

/** A browser with one page. */
export class Chromium implements AsyncDisposable {
  /** What the page has said on its console, and its errors. */
  readonly said: string[] = [];
  readonly #folder: Folder;
  readonly #program: Program;
  readonly #socket: WebSocket;
  readonly #answers = new Map<number, PromiseWithResolvers<Fields>>();
  readonly #events = new Map<string, (params: Fields) => void>();
  #session: string | undefined;
  #lastId = 0;

  private constructor(folder: Folder, program: Program, socket: WebSocket) {
    this.#folder = folder;
    this.#program = program;
    this.#socket = socket;
    socket.onmessage = ({ data }) => this.#take(JSON.parse(data));
  }

  /** Starts a browser, with an empty page. */
  static async start(): Promise<Chromium> {
    const folder = await Folder.make();
    const flags = ["--headless", "--no-sandbox", "--disable-gpu", `--user-data-dir=${folder.path}/profile`];
    const up = /DevTools listening on (ws:\S+)/;
    const program = await Program.start("chromium", [...flags, "--remote-debugging-port=0", "about:blank"], up);
    const [, url] = await program.hear(up);
    const socket = new WebSocket(url);
    await new Promise((resolve, reject) => {
      socket.onopen = resolve;
      socket.onerror = reject;
    });
    const browser = new Chromium(folder, program, socket);
    const { targetId } = await browser.send("Target.createTarget", { url: "about:blank" });
    const { sessionId } = await browser.send("Target.attachToTarget", { targetId, flatten: true });
    browser.#session = sessionId as string;
    for (const domain of ["Page", "Runtime", "Network", "DOM"]) await browser.send(`${domain}.enable`);
    return browser;
  }

  /** Sends a command of the DevTools protocol. */
  async send(method: string, params: Fields = {}): Promise<Fields> {
    const id = ++this.#lastId;
    const answer = Promise.withResolvers<Fields>();
    this.#answers.set(id, answer);
    this.#socket.send(JSON.stringify({ id, method, params, sessionId: this.#session }));
    return await inTime(answer.promise, method);
  }

  /** The next event of a kind; ask before what leads to it. */
  async event(method: string): Promise<Fields> {
    const { promise, resolve } = Promise.withResolvers<Fields>();
    this.#events.set(method, resolve);
    return await inTime(promise, method);
  }

  /** Opens a page, and waits until it is loaded. */
  async open(url: string): Promise<void> {
    const loaded = this.event("Page.loadEventFired");
    await this.send("Page.navigate", { url });
    await loaded;
  }

  /** What an expression gives in the page; promises are awaited. */
  async evaluate<T>(expression: string): Promise<T> {
    const options = { expression, awaitPromise: true, returnByValue: true };
    const { result, exceptionDetails } = await this.send("Runtime.evaluate", options) as {
      result: { value: T };
      exceptionDetails?: { exception: { description?: string; value?: unknown } };
    };
    if (exceptionDetails === undefined) return result.value;
    const { description, value } = exceptionDetails.exception;
    throw new Error(`${expression} threw ${description ?? JSON.stringify(value)}\n${this.said.join("\n")}`);
  }

  /** Waits until an expression holds in the page, which looks at each change of its document. */
  async until(expression: string): Promise<void> {
    await this.evaluate(`new Promise((resolve, reject) => {
      const look = () => (${expression}) && (resolve(), observer.disconnect(), clearTimeout(patience));
      const observer = new MutationObserver(look);
      const patience = setTimeout(() => reject(new Error("it never held")), ${PATIENCE_MS - 5_000});
      observer.observe(document, { subtree: true, childList: true, characterData: true, attributes: true });
      look();
    })`);
  }

  /** Gives the screen a size. A window itself is never narrower than 500 pixels. */
  async resize(width: number, height: number): Promise<void> {
    await this.send("Emulation.setDeviceMetricsOverride", { width, height, deviceScaleFactor: 1, mobile: false });
  }

  /** A picture of the page, as PNG. */
  async screenshot(
    { width, height, dark = false }: { width: number; height: number; dark?: boolean },
  ): Promise<Uint8Array> {
    await this.resize(width, height);
    await this.send("Emulation.setEmulatedMedia", {
      features: [{ name: "prefers-color-scheme", value: dark ? "dark" : "light" }],
    });
    const { data } = await this.send("Page.captureScreenshot", { format: "png" });
    return Uint8Array.fromBase64(data as string);
  }

  #take({ id, method, params, result, error }: Fields): void {
    if (id === undefined) {
      if (method === "Runtime.consoleAPICalled") this.said.push(JSON.stringify((params as Fields).args));
      if (method === "Runtime.exceptionThrown") this.said.push(JSON.stringify(params));
      this.#events.get(method as string)?.(params as Fields);
      return;
    }
    const answer = this.#answers.get(id as number);
    this.#answers.delete(id as number);
    if (error === undefined) answer?.resolve(result as Fields);
    else answer?.reject(new Error(JSON.stringify(error)));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const closed = new Promise((resolve) => this.#socket.onclose = resolve);
    this.#socket.close();
    await closed;
    await this.#program[Symbol.asyncDispose]();
    await this.#folder[Symbol.asyncDispose]();
  }
}

async function inTime<T>(promise: Promise<T>, what: string): Promise<T> {
  const { promise: late, reject } = Promise.withResolvers<never>();
  const patience = setTimeout(() => reject(new Error(`the browser has not answered: ${what}`)), PATIENCE_MS);
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(patience);
  }
}

/**
 * Certificates for tests, made by openssl and gone with the test.
 *
 * In: what a certificate is to say. Out: the certificate and its key, as PEM text and as files.
 */

/** A certificate and its key. */
export interface Certificate {
  readonly cert: string;
  readonly key: string;
  readonly certPath: string;
  readonly keyPath: string;
}

/** What the option `tls` takes of it. */
export function pemOf({ cert, key }: Certificate): { cert: string; key: string } {
  return { cert, key };
}

/** What a certificate is to say. */
export interface CertificateOptions {
  /** Whom it is for, as openssl writes it: `/O=Analytical/CN=ada`. */
  subject?: string;
  /** For which names and addresses, as openssl writes it. */
  names?: string;
  /** How long it is good for; -1 has been over since yesterday. */
  days?: number;
}

/** Small, and made in no time. */
const KEY_KIND = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];

/** For this machine. */
const HERE = "IP:127.0.0.1,DNS:localhost";

/** A folder of certificates. */
export class Certificates implements AsyncDisposable {
  #made = 0;

  private constructor(readonly folder: string) {}

  /** An empty folder. */
  static async begin(): Promise<Certificates> {
    return new Certificates(await Deno.makeTempDir({ prefix: "packline-tls-" }));
  }

  /** A certificate that has signed itself: an authority. */
  async selfSigned({ subject = "/CN=here", names = HERE, days = 30 }: CertificateOptions = {}): Promise<Certificate> {
    const path = this.#nextPath();
    if (days < 0) {
      // Only a request that exists already can be answered with a time that is over.
      const { certPath, keyPath } = await this.selfSigned({ subject, names });
      await openssl("x509", "-in", certPath, "-signkey", keyPath, "-days", String(days), "-out", `${path}.pem`);
      await Deno.copyFile(keyPath, `${path}.key`);
      return await read(path);
    }
    const args = [...subjectArguments(subject), "-addext", `subjectAltName=${names}`, "-days", String(days)];
    await openssl("req", "-x509", ...KEY_KIND, "-keyout", `${path}.key`, "-out", `${path}.pem`, ...args);
    return await read(path);
  }

  /** A certificate that an authority has signed. */
  async signedBy(
    authority: Certificate,
    { subject = "/CN=here", names = HERE, days = 30 }: CertificateOptions = {},
  ): Promise<Certificate> {
    const path = this.#nextPath();
    await openssl(
      "req",
      "-new",
      ...KEY_KIND,
      "-keyout",
      `${path}.key`,
      "-out",
      `${path}.csr`,
      ...subjectArguments(subject),
    );
    await Deno.writeTextFile(`${path}.ext`, `subjectAltName=${names}`);
    const by = ["-CA", authority.certPath, "-CAkey", authority.keyPath, "-set_serial", String(this.#made)];
    const request = ["-in", `${path}.csr`, "-extfile", `${path}.ext`, "-days", String(days)];
    await openssl("x509", "-req", ...request, ...by, "-out", `${path}.pem`);
    return await read(path);
  }

  /** A file with some text; answers with its path. */
  async file(text: string): Promise<string> {
    const path = this.#nextPath();
    await Deno.writeTextFile(path, text);
    return path;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Deno.remove(this.folder, { recursive: true });
  }

  #nextPath(): string {
    return `${this.folder}/${++this.#made}`;
  }
}

function subjectArguments(subject: string): string[] {
  return ["-utf8", "-subj", subject];
}

async function openssl(...args: string[]): Promise<void> {
  const { success, stderr } = await new Deno.Command("openssl", { args, stdin: "null" }).output();
  if (!success) throw new Error(new TextDecoder().decode(stderr));
}

async function read(path: string): Promise<Certificate> {
  const [certPath, keyPath] = [`${path}.pem`, `${path}.key`];
  const [cert, key] = await Promise.all([certPath, keyPath].map((path) => Deno.readTextFile(path)));
  return { cert, key, certPath, keyPath };
}

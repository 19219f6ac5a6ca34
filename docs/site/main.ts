/**
 * Makes the documentation as pages that open in a browser without a server: `deno task docs`, then `dist/docs/index.html`.
 *
 * In: the documents of this checkout, and as an argument the folder for the pages. Out: a page for each document, one for each
 * file that a document links to, and the reference of every symbol below `api/`. Refused: a link that leads nowhere (1).
 */

import { Marked, type Tokens } from "marked";

const project = new URL("../../", import.meta.url);
const output = new URL(`${Deno.args[0] ?? "dist/docs"}/`, `file://${Deno.cwd()}/`);

/** What stands in the menu. Other documents are reached by links. */
const MENU: Readonly<Record<string, readonly [title: string, path: string][]>> = {
  Start: [
    ["packline", "README.md"],
    ["Tutorial", "docs/tutorial.md"],
    ["The command line", "docs/command_line.md"],
  ],
  Recipes: [
    ["Validation", "docs/recipes/validation.md"],
    ["Authentication", "docs/recipes/authentication.md"],
    ["Middleware", "docs/recipes/middleware.md"],
    ["Streams", "docs/recipes/streams.md"],
    ["Uploads", "docs/recipes/uploads.md"],
    ["Deadlines", "docs/recipes/deadlines.md"],
    ["Errors and retries", "docs/recipes/errors.md"],
    ["Testing", "docs/recipes/testing.md"],
    ["Logging and telemetry", "docs/recipes/telemetry.md"],
    ["Hot reload", "docs/recipes/hot_reload.md"],
    ["Deployment", "docs/recipes/deployment.md"],
    ["Many servers", "docs/recipes/many_servers.md"],
    ["Browsers", "docs/browsers.md"],
  ],
  Guides: [
    ["Streams", "docs/streams.md"],
    ["In production", "docs/production.md"],
    ["Telemetry", "docs/telemetry.md"],
    ["Security", "docs/security.md"],
    ["Reliability", "RELIABILITY.md"],
    ["All documents", "docs/README.md"],
  ],
  Reference: [
    ["Protocol", "PROTOCOL.md"],
    ["Every symbol", "api/all_symbols.html"],
    ["Benchmarks", "bench/RESULTS.md"],
    ["Architecture", "docs/architecture.md"],
    ["Changes", "CHANGELOG.md"],
  ],
};

/** What is shown by the page it is on, or as it is. */
const COPIED = /\.(svg|png)$/;

const style = await Deno.readTextFile(new URL("style.css", import.meta.url));
const apiStyle = await Deno.readTextFile(new URL("api.css", import.meta.url));

/** The pages that are made, and those that are to be. */
const known = new Set<string>();
const waiting: string[] = [];
const broken: string[] = [];

/** The page of a file of the project; it will be made. */
function pageOf(path: string): string {
  if (!known.has(path)) {
    known.add(path);
    waiting.push(path);
  }
  if (COPIED.test(path)) return path;
  return path === "README.md" ? "index.html" : `${path.replace(/\.md$/, "")}.html`;
}

/** A path as seen from a page. */
function relative(from: string, to: string): string {
  return "../".repeat(from.split("/").length - 1) + to;
}

/** Where a link of a document leads, as seen from its page. */
function linkFrom(path: string, href: string): string {
  if (/^(https?:|#)/.test(href)) return href;
  const [target, fragment] = href.split("#");
  let found = new URL(target, new URL(path, "file:///")).pathname.slice(1);
  try {
    if (Deno.statSync(new URL(found, project)).isDirectory) found = `${found.replace(/\/$/, "")}/README.md`;
    Deno.statSync(new URL(found, project));
  } catch {
    broken.push(`${path} links to ${href}`);
    return href;
  }
  return relative(pageOf(path), pageOf(found)) + (fragment === undefined ? "" : `#${fragment}`);
}

function escaped(text: string): string {
  return text.replace(/[&<>"]/g, (character) => `&#${character.charCodeAt(0)};`);
}

/** The anchor of a heading, as GitHub makes it. */
function anchorOf(heading: string): string {
  return heading.toLowerCase().replace(/[^\p{L}\p{N}\s_-]/gu, "").trim().replace(/\s/g, "-");
}

/** A document as HTML. */
function rendered(path: string, markdown: string): string {
  const marked = new Marked({
    renderer: {
      heading({ tokens, depth, text }: Tokens.Heading) {
        return `<h${depth} id="${anchorOf(text.replaceAll("`", ""))}">${this.parser.parseInline(tokens)}</h${depth}>\n`;
      },
      code({ text, lang }: Tokens.Code) {
        return `<pre tabindex="0"><code class="${escaped(lang ?? "")}">${escaped(text)}</code></pre>\n`;
      },
      table(token: Tokens.Table) {
        const cells = (row: Tokens.TableCell[], name: string) =>
          row.map(({ tokens }) => `<${name}>${this.parser.parseInline(tokens)}</${name}>`).join("");
        const rows = token.rows.map((row) => `<tr>${cells(row, "td")}</tr>`).join("\n");
        return `<div class="table" tabindex="0"><table><thead><tr>${
          cells(token.header, "th")
        }</tr></thead>\n<tbody>${rows}</tbody></table></div>\n`;
      },
    },
    walkTokens(token) {
      if (token.type === "link" || token.type === "image") token.href = linkFrom(path, token.href);
    },
  });
  return marked.parse(markdown, { async: false });
}

function menuFor(path: string): string {
  const here = pageOf(path);
  return Object.entries(MENU).map(([heading, entries]) => {
    const items = entries.map(([title, target]) => {
      const to = target.startsWith("api/") ? target : pageOf(target);
      return `<li><a href="${relative(here, to)}"${to === here ? ' aria-current="page"' : ""}>${title}</a></li>`;
    });
    return `<h2>${heading}</h2><ul>${items.join("")}</ul>`;
  }).join("\n");
}

function pageText(path: string, title: string, body: string): string {
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${escaped(title)}</title>
<style>
${style}</style>
</head>
<body>
<nav><details><summary>Menu</summary>${menuFor(path)}</details></nav>
<main>
${body}</main>
<script>
  const menu = document.querySelector("details"), wide = matchMedia("(min-width: 900px)");
  (wide.onchange = () => menu.open = wide.matches)();
</script>
</body>
</html>
`;
}

async function write(path: string): Promise<void> {
  const to = new URL(pageOf(path), output);
  await Deno.mkdir(new URL(".", to), { recursive: true });
  if (COPIED.test(path)) return await Deno.copyFile(new URL(path, project), to);
  const text = await Deno.readTextFile(new URL(path, project));
  if (!path.endsWith(".md")) {
    const body = `<h1>${path}</h1>\n<pre tabindex="0"><code>${escaped(text)}</code></pre>\n`;
    return await Deno.writeTextFile(to, pageText(path, path, body));
  }
  const title = text.match(/^# (.*)$/m)?.[1] ?? path;
  await Deno.writeTextFile(to, pageText(path, title, rendered(path, text)));
}

pageOf("README.md");
for (let path = waiting.shift(); path !== undefined; path = waiting.shift()) await write(path);

const api = new URL("api", output).pathname;
const args = ["doc", "--quiet", "--html", "--name=packline", `--output=${api}`, new URL("mod.ts", project).href];
const { success, stderr } = await new Deno.Command(Deno.execPath(), { args, cwd: project }).output();
if (!success) broken.push(new TextDecoder().decode(stderr));
else await Deno.writeTextFile(`${api}/page.css`, apiStyle, { append: true });

for (const fault of broken) console.error(fault);
console.log(
  `${known.size} pages and files, and the reference of every symbol: ${new URL("index.html", output).pathname}`,
);
Deno.exitCode = broken.length > 0 ? 1 : 0;

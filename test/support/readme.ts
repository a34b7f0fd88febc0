/** The README's parts, for tests that do what it says. */

const path = new URL("../../README.md", import.meta.url).pathname;

/** A section, by its title, without it. */
export async function readmeSection(title: string): Promise<string> {
  const readme = await Bun.file(path).text();
  const section = readme.split(/^## /m).find((text) => text.startsWith(`${title}\n`));
  if (section === undefined) throw new Error(`the README has no section ${title}`);
  return section.slice(title.length + 1);
}

/** The shell commands of a section, block by block. */
export async function shellBlocks(title: string): Promise<string[]> {
  return [...(await readmeSection(title)).matchAll(/```sh\n(.*?)```/gs)].map(([, block]) => block!);
}

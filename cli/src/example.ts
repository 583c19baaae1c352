/** The end of a help text. */
export const example = (...lines: readonly string[]): string => `\nExample:\n${lines.map((line) => `  $ ${line}`).join('\n')}`

// Prompts that a program would take for commands of its own.

/**
 * The prompt, with something before it that makes a text of it when it begins like a command. Else a path at the beginning of a prompt
 * would be an unknown command, and no model would ever see it.
 */
export const verbatim = (prompt: string, { command = /^\//, before = '\n' } = {}): string =>
  command.test(prompt) ? `${before}${prompt}` : prompt

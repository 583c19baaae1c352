// What is known of a harness, and how turns of it are run without a person.

/** What every harness can be given besides a prompt. */
export interface Extension {
  /** A server on standard input and output; its name is `probe`. */
  readonly mcp: { readonly command: string; readonly args: readonly string[] }
  /** What SKILL.md of the skill `probe-skill` says. */
  readonly skill: string
  /** What the sub-agent `probe-agent` is told to be. */
  readonly instructions: string
}

export interface TurnRequest {
  readonly modelUrl: string
  readonly prompt: string
  readonly extension?: Extension | undefined
}

export interface Turn {
  readonly argv: readonly string[]
  readonly env: Readonly<Record<string, string>>
  /** By path in the home folder. */
  readonly files: Readonly<Record<string, string>>
}

export interface Harness {
  readonly id: string
  /** What people and older clients call it too. */
  readonly aliases: readonly string[]
  readonly label: string
  readonly command: string
  /** Ways of driving it, the best first. */
  readonly routes: readonly string[]
  readonly modelsApi: string
  /** In the user's home; folders end in a slash. */
  readonly credentialLocations: readonly string[]
  readonly credentialEnv: readonly string[]
  readonly turn: (request: TurnRequest) => Turn
}

/** Harnesses want some credential, and the scripted model any. */
export const placeholder = 'placeholder'

export const skillName = 'probe-skill'
export const agentName = 'probe-agent'
const description = 'Proves that this works.'

const frontMatter = (members: Readonly<Record<string, string>>): string =>
  ['---', ...Object.entries(members).map(([name, value]) => `${name}: ${value}`), '---', ''].join('\n')

/** @param folder where the harness looks for skills */
export const skillFile = (folder: string, { skill }: Extension): Readonly<Record<string, string>> => ({
  [`${folder}/${skillName}/SKILL.md`]: `${frontMatter({ name: skillName, description })}${skill}\n`,
})

/** Of the harnesses that read a sub-agent from Markdown. */
export const agentFile = (folder: string, { instructions }: Extension, more: Readonly<Record<string, string>> = {}) => ({
  [`${folder}/${agentName}.md`]: `${frontMatter({ name: agentName, description, ...more })}${instructions}\n`,
})

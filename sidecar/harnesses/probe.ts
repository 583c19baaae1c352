// Proves a harness: it says its version, writes a file with its own tool, and takes what it is extended with.
import { copyFile, readdir, readFile } from 'node:fs/promises'
import path from 'node:path'
import { type SeenRequest, startScriptedModel } from '../scripted-model/server.ts'
import { agentName, type Extension, type Harness, skillName } from './harness.ts'
import { makePlace, type Place, placeFiles } from './place.ts'
import { type Outcome, run } from './run.ts'

export interface Extensions {
  readonly mcp: boolean
  readonly skills: boolean
  readonly subagents: boolean
}

export interface Evidence {
  /** As the program says it; empty when it says none. */
  readonly version: string
  /** What is wrong; empty when nothing is. */
  readonly problem: string
  readonly extensions: Extensions
  readonly elapsedMs: number
}

export interface ProbeOptions {
  /** The folder with the commands. */
  readonly bin: string
  readonly timeoutMs: number
}

export const noExtension: Extensions = { mcp: false, skills: false, subagents: false }
const content = 'scripted proof\n'
const answer = 'The proof is written.'

const lastLine = (text: string): string => text.trim().split('\n').at(-1)?.slice(0, 300) ?? ''

async function versionOf({ command }: Harness, { bin, timeoutMs }: ProbeOptions): Promise<string> {
  await using place = await makePlace(bin)
  const { workspace: cwd, env } = place
  const { stdout, stderr, end, isGood } = await run({ command: path.join(bin, command), argv: ['--version'], cwd, env, timeoutMs })
  const version = /\d+\.\d+\.\d+\S*/.exec(stdout)?.[0]
  if (!isGood || !version) throw new Error(`${command} --version ${end} ${lastLine(stderr || stdout)}`.trim())
  return version
}

interface TurnOptions extends ProbeOptions {
  readonly place: Place
  readonly prompt: string
  readonly extension?: Extension
}

async function takeTurn(harness: Harness, options: TurnOptions): Promise<Outcome & { readonly requests: readonly SeenRequest[] }> {
  const { bin, timeoutMs, place, prompt, extension } = options
  await using model = await startScriptedModel()
  const turn = harness.turn({ modelUrl: model.url, prompt, extension })
  await placeFiles(place.home, turn)
  const env = { ...place.env, ...turn.env }
  const outcome = await run({ command: path.join(bin, harness.command), argv: turn.argv, cwd: place.workspace, env, timeoutMs })
  return { ...outcome, requests: model.requests }
}

/** Throws what is wrong. */
async function proveWriting(harness: Harness, options: ProbeOptions): Promise<void> {
  await using place = await makePlace(options.bin)
  const { workspace } = place
  const prompt = `Write the file. [[plan:write,text]] [[file:proof.txt]] [[content:${content}]] [[reply:${answer}]]`
  const { isGood, end, stdout, stderr, requests } = await takeTurn(harness, { ...options, place, prompt })
  const said = lastLine(stderr || stdout)
  if (!isGood) throw new Error(`a turn ${end}: ${said}`)
  if (requests.every(({ step }) => step === undefined)) throw new Error(`a turn never asked the model: ${said}`)
  const written = await readFile(path.join(workspace, 'proof.txt'), 'utf8').catch(() => undefined)
  if (written?.trim() !== content.trim()) throw new Error(`a turn wrote no file; in the workspace: ${(await readdir(workspace)).join(' ')}`)
  if (!stdout.includes(answer)) throw new Error(`a turn did not answer: ${said}`)
}

/**
 * One turn calls the tool of an MCP server, loads a skill and starts a sub-agent. The server writes down its calls; the skill and the
 * instructions of the sub-agent have a word that nothing else has, which must then have reached the model.
 */
async function proveExtensions(harness: Harness, options: ProbeOptions): Promise<Extensions> {
  await using place = await makePlace(options.bin)
  const log = path.join(place.workspace, 'mcp.log')
  // Where the harness's user can read it.
  const server = path.join(place.home, 'mcp-echo.ts')
  await copyFile(path.join(import.meta.dirname, 'mcp-echo.ts'), server)
  const word = 'purple-elephant'
  const extension = {
    mcp: { command: path.join(options.bin, 'node'), args: [server, '--log', log] },
    skill: `The word is ${word}.`,
    instructions: `You are the ${word}.`,
  }
  const names = `[[mcpname:echo]] [[skillname:${skillName}]] [[agentname:${agentName}]]`
  // Some harnesses do not wait for their sub-agents: a slow last answer leaves them time.
  const prompt = `Go on. [[plan:mcp,skill,sub,text]] ${names} [[find:${word}]] [[delay:100]]`
  const { requests } = await takeTurn(harness, { ...options, place, prompt, extension })
  return {
    mcp: (await readFile(log, 'utf8').catch(() => '')) !== '',
    skills: requests.some(({ step, hasFound }) => step === 'sub' && hasFound === true),
    subagents: requests.some(({ prompt: asked, hasFound }) => asked !== undefined && !asked.includes('skillname') && hasFound === true),
  }
}

export async function probe(harness: Harness, options: ProbeOptions): Promise<Evidence> {
  const started = performance.now()
  const elapsedMs = (): number => Math.round(performance.now() - started)
  let version = ''
  try {
    version = await versionOf(harness, options)
    await proveWriting(harness, options)
    const extensions = await proveExtensions(harness, options)
    return { version, problem: '', extensions, elapsedMs: elapsedMs() }
  } catch (error) {
    const problem = error instanceof Error ? error.message : String(error)
    return { version, problem, extensions: noExtension, elapsedMs: elapsedMs() }
  }
}

// Runs a harness for real: its version, and one turn in which it writes a file with its own tool.
import { spawn } from 'node:child_process'
import { chown, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import os from 'node:os'
import path from 'node:path'
import { startScriptedModel } from '../scripted-model/server.ts'
import type { Harness, Turn } from './catalogue.ts'

export interface Evidence {
  /** As the program says it; empty when it says none. */
  readonly version: string
  /** What is wrong; empty when nothing is. */
  readonly problem: string
  readonly elapsedMs: number
}

export interface ProbeOptions {
  /** The folder with the commands. */
  readonly bin: string
  readonly timeoutMs: number
}

/** Harnesses run as the sandbox's user, never as root. */
export const probeUser = { uid: 1000, gid: 1000 }
const isRoot = process.getuid?.() === 0
const promise = 'scripted proof\n'

interface Run {
  readonly command: string
  readonly argv: readonly string[]
  readonly cwd: string
  readonly env: Readonly<Record<string, string>>
  readonly timeoutMs: number
}

interface Outcome {
  readonly stdout: string
  readonly stderr: string
  /** What it ended with, in words: `exited with 0`. */
  readonly end: string
  readonly isGood: boolean
}

/** In a process group of its own, of which nothing is left afterwards. */
function run({ command, argv, cwd, env, timeoutMs }: Run): Promise<Outcome> {
  return new Promise((resolve) => {
    const user = isRoot ? probeUser : {}
    const child = spawn(command, argv, { cwd, env, detached: true, stdio: ['ignore', 'pipe', 'pipe'], ...user })
    const stdout: string[] = []
    const stderr: string[] = []
    child.stdout.setEncoding('utf8').on('data', (text: string) => stdout.push(text))
    child.stderr.setEncoding('utf8').on('data', (text: string) => stderr.push(text))
    let isLate = false
    const timer = setTimeout(() => {
      isLate = true
      killGroup(child.pid)
    }, timeoutMs)
    const finish = (end: string, isGood: boolean): void => {
      clearTimeout(timer)
      resolve({ stdout: stdout.join(''), stderr: stderr.join(''), end, isGood })
    }
    child.on('error', ({ message }) => finish(`could not be started: ${message}`, false))
    child.on('exit', () => killGroup(child.pid))
    child.on('close', (code, signal) => {
      if (isLate) finish(`was not done after ${timeoutMs / 1000} s`, false)
      else finish(signal ? `was ended by ${signal}` : `exited with ${code}`, code === 0)
    })
  })
}

function killGroup(pid: number | undefined): void {
  if (pid === undefined) return
  try {
    process.kill(-pid, 'SIGKILL')
  } catch {
    // Nobody is left in the group.
  }
}

const lastLine = (text: string): string => text.trim().split('\n').at(-1)?.slice(0, 300) ?? ''

async function versionOf({ command }: Harness, place: Omit<Run, 'command' | 'argv'>, bin: string): Promise<string> {
  const { stdout, stderr, end, isGood } = await run({ ...place, command: path.join(bin, command), argv: ['--version'] })
  const version = /\d+\.\d+\.\d+\S*/.exec(stdout)?.[0]
  if (!isGood || !version) throw new Error(`${command} --version ${end} ${lastLine(stderr || stdout)}`.trim())
  return version
}

async function ownedFolder(folder: string): Promise<string> {
  await mkdir(folder, { recursive: true })
  if (isRoot) await chown(folder, probeUser.uid, probeUser.gid)
  return folder
}

async function placeFiles(home: string, { files }: Turn): Promise<void> {
  for (const [name, content] of Object.entries(files)) {
    await ownedFolder(path.join(home, path.dirname(name)))
    await writeFile(path.join(home, name), content, { mode: 0o644 })
  }
}

interface Place {
  readonly home: string
  readonly workspace: string
  readonly env: Readonly<Record<string, string>>
}

/** Throws what is wrong. */
async function takeTurn(harness: Harness, { home, workspace, env }: Place, { bin, timeoutMs }: ProbeOptions): Promise<void> {
  await using model = await startScriptedModel()
  const prompt = `Write the file. [[plan:write,text]] [[file:proof.txt]] [[content:${promise}]] [[reply:The proof is written.]]`
  const turn = harness.turn({ modelUrl: model.url, prompt })
  await placeFiles(home, turn)
  const command = path.join(bin, harness.command)
  const outcome = await run({ command, argv: turn.argv, cwd: workspace, env: { ...env, ...turn.env }, timeoutMs })
  const said = lastLine(outcome.stderr || outcome.stdout)
  if (!outcome.isGood) throw new Error(`a turn ${outcome.end}: ${said}`)
  if (model.requests.every(({ step }) => step === undefined)) throw new Error(`a turn never asked the model: ${said}`)
  const written = await readFile(path.join(workspace, 'proof.txt'), 'utf8').catch(() => undefined)
  if (written?.trim() !== promise.trim()) throw new Error(`a turn wrote no file; in the workspace: ${(await readdir(workspace)).join(' ')}`)
  if (!outcome.stdout.includes('The proof is written.')) throw new Error(`a turn did not answer: ${said}`)
}

export async function probe(harness: Harness, options: ProbeOptions): Promise<Evidence> {
  const started = performance.now()
  const elapsedMs = (): number => Math.round(performance.now() - started)
  const folder = await mkdtemp(path.join(os.tmpdir(), 'harness-'))
  let version = ''
  try {
    await ownedFolder(folder)
    const home = await ownedFolder(path.join(folder, 'home'))
    const workspace = await ownedFolder(path.join(folder, 'workspace'))
    const temporary = await ownedFolder(path.join(folder, 'tmp'))
    const env = {
      HOME: home,
      TMPDIR: temporary,
      PATH: `${options.bin}:/usr/local/bin:/usr/bin:/bin`,
      LANG: 'C.UTF-8',
      USER: 'agent',
      SHELL: '/bin/sh',
    }
    version = await versionOf(harness, { cwd: workspace, env, timeoutMs: options.timeoutMs }, options.bin)
    await takeTurn(harness, { home, workspace, env }, options)
    return { version, problem: '', elapsedMs: elapsedMs() }
  } catch (error) {
    return { version, problem: error instanceof Error ? error.message : String(error), elapsedMs: elapsedMs() }
  } finally {
    await rm(folder, { recursive: true, force: true, maxRetries: 5, retryDelay: 100 })
  }
}

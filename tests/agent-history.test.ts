// What agents did in a sandbox is there to look at while it is stopped, whatever became of it, and whatever was put in its place.
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import {
  chmodSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import path from 'node:path'
import { after, before, describe, test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { readEvents, type StreamEvent } from './events.ts'
import { testRuntimes } from './runtimes.ts'
import { type Answer, startOperator, type TestOperator } from './start-operator.ts'

const until = async (what: string, isTrue: () => boolean | Promise<boolean>): Promise<void> => {
  for (const deadline = Date.now() + 30_000; !(await isTrue()); await delay(50)) {
    if (Date.now() > deadline) throw new Error(`waited 30 s until ${what}`)
  }
}

/** A sandbox and what may be asked of its agents. */
class Subject {
  operator: TestOperator
  readonly id: string

  constructor(operator: TestOperator, id: string) {
    this.operator = operator
    this.id = id
  }

  get base(): string {
    return `/api/sandboxes/${this.id}`
  }

  /** Where its sidecar keeps what agents did. */
  get folder(): string {
    return path.join(this.operator.folder, 'state/sandboxes', this.id, 'sidecar/agents')
  }

  get(target: string, key = this.operator.adminKey): Promise<Answer> {
    return this.operator.call('GET', `${this.base}/${target}`, { key })
  }

  async post(target: string, body: object = {}): Promise<Answer> {
    return this.operator.call('POST', `${this.base}/${target}`, { body })
  }

  /** The id of a run that was begun. */
  async start(prompt: string, session_id = ''): Promise<string> {
    const { status, body, text } = await this.post('agents/runs', { prompt, harness: 'echo', session_id })
    assert.equal(status, 202, text)
    return body.id
  }

  /** The same, when the run is over. */
  async perform(prompt: string, session_id = ''): Promise<{ run: string; session: string }> {
    const run = await this.start(prompt, session_id)
    await this.get(`agents/runs/${run}/events`)
    return { run, session: (await this.get(`agents/runs/${run}`)).body.session_id }
  }

  /** Every answer there is about its agents, byte for byte. */
  async everything(): Promise<Record<string, string>> {
    const { body: runs } = await this.get('agents/runs')
    const { body: sessions } = await this.get('agents/sessions')
    const ofRuns = runs.runs.flatMap(({ id }: { id: string }) => [
      `agents/runs/${id}`,
      `agents/runs/${id}/events`,
      `agents/runs/${id}/events?cursor=3`,
    ])
    const ofSessions = sessions.sessions.flatMap(({ id }: { id: string }) => [
      `agents/sessions/${id}`,
      `agents/sessions/${id}/transcript`,
      `live/chat/sessions/${id}`,
    ])
    const targets = ['agents/runs', 'agents/sessions', 'live/chat/sessions', ...ofRuns, ...ofSessions]
    const answers: Record<string, string> = {}
    for (const target of targets) {
      const { status, text } = await this.get(target)
      answers[target] = `${status} ${text}`
    }
    return answers
  }

  async state(): Promise<string> {
    return (await this.operator.call('GET', this.base)).body.state
  }

  /** Ends it as a power cut would, and waits until the operator has seen it. */
  async crash(): Promise<void> {
    for (const pid of sidecarsOf(this.id)) process.kill(pid, 'SIGKILL')
    await until('the operator sees that the sandbox is stopped', async () => (await this.state()) === 'stopped')
  }
}

const isNumber = (name: string): boolean => /^\d+$/.test(name)

function readProcess(pid: string, name: string): string {
  try {
    return readFileSync(`/proc/${pid}/${name}`, 'utf8')
  } catch {
    return ''
  }
}

/** Whether it sees the mounts of this machine, and with them the disk of every sandbox. */
function isOfTheHost(pid: string): boolean {
  try {
    return readlinkSync(`/proc/${pid}/ns/mnt`) === readlinkSync('/proc/self/ns/mnt')
  } catch {
    return true // It has ended meanwhile.
  }
}

/** Processes that are the first of a sandbox, which its folders in their mounts show. */
const sidecarsOf = (id: string): number[] =>
  readdirSync('/proc')
    .filter((pid) => isNumber(pid) && /sidecar\.mjs\0$/.test(readProcess(pid, 'cmdline')))
    .filter((pid) => !isOfTheHost(pid) && readProcess(pid, 'mountinfo').includes(id))
    .map(Number)

/** Those that read the history of one. */
const historiesOf = (id: string): string[] =>
  readdirSync('/proc').filter(
    (pid) => isNumber(pid) && readProcess(pid, 'cmdline').includes('--history\0') && readProcess(pid, 'cmdline').includes(id),
  )

const codeOf = ({ status, body }: Answer): unknown[] => [status, body?.code]

for (const { name: runtime, skip } of testRuntimes) {
  describe(`history of agents on ${runtime}`, { skip }, () => {
    let operator: TestOperator
    let subject: Subject
    before(async () => {
      operator = await startOperator({ runtime, env: { SANDBOX_REAPER_INTERVAL: '1' } })
      subject = new Subject(operator, await operator.newSandbox({ memory_mb: 512 }))
    })
    after(() => operator[Symbol.asyncDispose]())

    test('a stopped sandbox answers what a running one does, byte for byte, and takes no prompt', async () => {
      const { session } = await subject.perform('[[write:a.txt|b]] [[shell:echo from a tool]] the word is plover')
      await subject.perform('[[recall]]', session)
      await subject.perform('[[fail:rate_limit]]')
      await subject.perform('"☃'.repeat(100_000))
      await subject.post('live/chat/sessions', { title: 'Nothing in it' })
      const running = await subject.everything()
      await subject.post('stop')
      assert.deepEqual(await subject.everything(), running)
      assert.ok(Object.values(running).every((text) => text.startsWith('200 ')))
      assert.deepEqual(codeOf(await subject.post('prompt', { message: 'hello', session_id: session })), [409, 'sandbox.not_running'])
      assert.deepEqual(codeOf(await subject.post('agents/runs', { prompt: 'hello' })), [409, 'sandbox.not_running'])
      assert.deepEqual(codeOf(await subject.get('agents/runs/unknown')), [404, 'agent.run_not_found'])
      assert.deepEqual(codeOf(await subject.get('live/chat/sessions/unknown/stream')), [404, 'agent.session_not_found'])
    })

    test('who reads it has no rights, no network of the host and nothing of its environment', async () => {
      await subject.get('agents/runs')
      const [pid = ''] = historiesOf(subject.id)
      const status = readProcess(pid, 'status')
      const field = (name: string): string => new RegExp(`^${name}:[ \\t]*(.*)$`, 'm').exec(status)?.[1] ?? ''
      const [uid = '', ...uids] = field('Uid').split('\t')
      assert.ok(Number(uid) > 65_536 && uids.every((one) => one === uid), field('Uid'))
      assert.deepEqual([field('Gid'), field('Groups').trim()], [field('Uid'), ''])
      assert.deepEqual([field('CapEff'), field('CapPrm'), field('NoNewPrivs')], ['0000000000000000', '0000000000000000', '1'])
      const names = readProcess(pid, 'environ')
        .split('\0')
        .filter(Boolean)
        .map((line) => line.split('=')[0])
      assert.deepEqual(names.sort(), ['LC_ALL', 'PATH'])
      assert.notEqual(readlinkSync(`/proc/${pid}/ns/net`), readlinkSync('/proc/self/ns/net'))
    })

    test('somebody else reads none of it, also while it is stopped', async () => {
      const stranger = await operator.newKey(`stranger-${runtime}`)
      const [run] = (await subject.get('agents/runs')).body.runs
      const own = ['agents/runs', `agents/runs/${run.id}`, `agents/runs/${run.id}/events`, `agents/sessions/${run.session_id}/transcript`]
      for (const target of [...own, 'live/chat/sessions', `live/chat/sessions/${run.session_id}/stream`]) {
        assert.deepEqual(codeOf(await subject.get(target, stranger)), [404, 'sandbox.not_found'], target)
      }
    })

    test('an operator that was killed goes on with it', async () => {
      const before = await subject.everything()
      await operator.kill()
      await until('the process that read it has ended, too', () => historiesOf(subject.id).length === 0)
      operator = await startOperator({ runtime, folder: operator.folder, env: { SANDBOX_REAPER_INTERVAL: '1' } })
      subject.operator = operator
      assert.deepEqual(await subject.everything(), before)
    })

    test('those who read while it is resumed hinder nothing and are told nothing else', async () => {
      const { runs } = (await subject.get('agents/runs')).body
      const targets = runs.flatMap(({ id, session_id: session }: { id: string; session_id: string }) => [
        `agents/runs/${id}/events`,
        `agents/sessions/${session}/transcript`,
        `live/chat/sessions/${session}`,
      ])
      const told = async (): Promise<string[]> =>
        Promise.all(targets.map(async (target: string) => `${(await subject.get(target)).status} ${(await subject.get(target)).text}`))
      const before = await told()
      const [resumed, ...during] = await Promise.all([subject.post('resume'), told(), told(), told()])
      assert.equal(resumed.status, 200)
      for (const one of during) assert.deepEqual(one, before)
      await until('nobody reads it from its files any more', () => historiesOf(subject.id).length === 0)
      assert.deepEqual(readdirSync(path.join(operator.folder, 'run/history')), [])
      const { run, session } = await subject.perform('[[recall]]', runs.at(-1).session_id)
      await subject.post('stop')
      assert.equal((await subject.get(`agents/runs/${run}`)).body.outcome, 'completed', 'what it did since is there, too')
      assert.ok((await subject.get(`agents/sessions/${session}`)).body.run_ids.includes(run))
      await subject.post('resume')
    })

    test('a run that a crash cut off is over, and tells the same before and after the sandbox is resumed', async () => {
      const { session } = await subject.perform('said before')
      const [cut, other] = [await subject.start('[[shell:echo begun; sleep 600]]', session), await subject.start('[[sleep:600000]]')]
      const waiting = await subject.start('it waited', session)
      await firstEvent(await operator.fetch('GET', `${subject.base}/agents/runs/${cut}/events`), ({ event }) => event === 'tool.updated')
      await firstEvent(
        await operator.fetch('GET', `${subject.base}/agents/runs/${other}/events`),
        ({ event }) => event === 'session.linked',
      )
      await subject.crash()
      const told = async (run: string): Promise<string[]> =>
        Promise.all([`agents/runs/${run}`, `agents/runs/${run}/events`].map(async (target) => (await subject.get(target)).text))
      const before = [await told(cut), await told(other)]
      const { body: run } = await subject.get(`agents/runs/${cut}`)
      assert.deepEqual([run.state, run.outcome, run.error.code], ['finished', 'failed', 'lost'])
      const names = [...(before[0]?.[1] ?? '').matchAll(/^event: (.*)$/gm)].map(([, name]) => name)
      assert.ok(names.includes('tool.finished') && names.at(-1) === 'run.finished', names.join())
      const { body: chat } = await subject.get(`live/chat/sessions/${session}`)
      assert.deepEqual(
        chat.runs.map(({ status }: { status: string }) => status),
        ['completed', 'interrupted', 'queued'],
      )
      assert.match((await subject.get(`agents/sessions/${session}/transcript`)).text, /"type":"run.finished","outcome":"failed"/)
      assert.equal((await subject.get(`agents/runs/${waiting}/events`)).text, '', 'nothing is told of what waits')
      const [{ status }, ...seen] = await Promise.all([
        subject.post('resume'),
        ...Array.from({ length: 10 }, () => subject.get(`agents/runs/${waiting}`)),
      ])
      assert.equal(status, 200)
      for (const { body } of seen) assert.equal(body.error, null, body.error?.message)
      assert.deepEqual([await told(cut), await told(other)], before)
      await subject.get(`agents/runs/${waiting}/events`)
      assert.equal((await subject.get(`agents/runs/${waiting}`)).body.text, 'it waited')
    })

    test('a chat is followed over a stop: what was told is told again, then what comes after the resume', async () => {
      await subject.post('resume')
      const { run, session } = await subject.perform('one two three')
      await subject.post('stop')
      const leaving = new AbortController()
      const stream = `${subject.base}/live/chat/sessions/${session}/stream`
      const answer = await operator.fetch('GET', stream, { headers: { 'last-event-id': `${run}:1` }, signal: leaving.signal })
      const names: string[] = []
      let next: string | undefined
      for await (const { event, data } of readEvents(answer)) {
        names.push(`${event} ${data.id ?? data.run_id ?? ''}`)
        if (event !== 'session.idle') continue
        if (next !== undefined) break
        await subject.post('resume')
        next = await subject.start('four five', session)
      }
      leaving.abort()
      assert.deepEqual(
        names.filter((name) => /^run_(queued|completed)/.test(name)),
        [`run_completed ${run}`, `run_queued ${next}`, `run_completed ${next}`],
      )
    })

    test('what was put into the folder is not followed, not waited for, and harms nothing else', async () => {
      await subject.post('resume')
      const good = await subject.perform('a good one')
      const bad = await subject.perform('a bad one')
      const large = await subject.perform('a large one')
      await subject.post('stop')
      const before = (await subject.get(`agents/sessions/${good.session}/transcript`)).text
      await subject.post('resume')
      await subject.post('stop')
      const at = (...names: string[]): string => path.join(subject.folder, ...names)
      const secret = path.join(operator.folder, 'state/admin-key')
      const document = JSON.parse(readFileSync(at(bad.session, `${bad.run}.json`), 'utf8'))
      const put = (name: string, content: object): void => writeFileSync(at(bad.session, `${name}.json`), JSON.stringify(content))
      rmSync(at(bad.session, `${bad.run}.jsonl`))
      symlinkSync('/etc/passwd', at(bad.session, `${bad.run}.jsonl`))
      put('00000000000000aa', { ...document, id: '../../../../admin-key' })
      put('00000000000000ab', { ...document, id: '00000000000000ab', session_id: '../../../../../../etc' })
      put('00000000000000ac', { ...document, id: '00000000000000ac', state: 'forever' })
      put('00000000000000ad', { ...document, id: '00000000000000ad', has_long_prompt: true })
      symlinkSync(secret, at(bad.session, '00000000000000ad.prompt'))
      put('00000000000000ae', { ...document, id: '00000000000000ae', state: 'running' })
      execFileSync('mkfifo', [at(bad.session, '00000000000000ae.jsonl')])
      writeFileSync(at(bad.session, '00000000000000af.json'), '[{"not"')
      symlinkSync('/etc/shadow', at(bad.session, '00000000000000b0.json'))
      execFileSync('mkfifo', [at(bad.session, '00000000000000b1.json')])
      symlinkSync('/etc', at('00000000000000b2'))
      writeFileSync(at('00000000000000b3'), 'no folder')
      mkdirSync(at('00000000000000b4'))
      symlinkSync(secret, at('00000000000000b4', 'session.json'))
      truncateSync(at(large.session, `${large.run}.jsonl`), 1024 ** 3)
      const { body } = await subject.get('agents/runs')
      const ids = body.runs.map(({ id }: { id: string }) => id)
      const told = (id: string): boolean => ids.includes(`00000000000000${id}`)
      assert.deepEqual(['aa', 'ab', 'ac', 'ad', 'ae', 'af', 'b0', 'b1'].map(told), [false, false, false, true, true, false, false, false])
      assert.equal((await subject.get(`agents/sessions/${good.session}/transcript`)).text, before)
      const refused = [500, 503]
      for (const target of [`runs/${bad.run}/events`, 'runs/00000000000000ad', `sessions/${bad.session}/transcript`]) {
        const { status, body } = await subject.get(`agents/${target}`)
        assert.ok(refused.includes(status) && typeof body.code === 'string', `${target}: ${status}`)
      }
      assert.deepEqual(codeOf(await subject.get(`agents/runs/${large.run}/events`)), [503, 'agent.history_unreadable'])
      const lost = await subject.get('agents/runs/00000000000000ae')
      assert.deepEqual([lost.body.state, lost.body.error.code], ['finished', 'lost'])
      const all = Object.values(await subject.everything()).join('\n')
      assert.ok(!all.includes(operator.adminKey) && !all.includes('root:'))
      rmSync(at(bad.session), { recursive: true })
      for (const name of ['b2', 'b3', 'b4']) rmSync(at(`00000000000000${name}`), { recursive: true })
    })

    test('a folder that is none, or of which nobody may read, is a refusal, and the sandbox resumes all the same', async () => {
      const aside = `${subject.folder}.aside`
      const unreadable = [503, 'agent.history_unreadable']
      await subject.post('resume').then(() => subject.post('stop'))
      renameSync(subject.folder, aside)
      symlinkSync(aside, subject.folder)
      assert.deepEqual(codeOf(await subject.get('agents/runs')), unreadable)
      rmSync(subject.folder)
      renameSync(aside, subject.folder)
      await subject.post('resume').then(() => subject.post('stop'))
      chmodSync(subject.folder, 0o700)
      assert.deepEqual(codeOf(await subject.get('agents/runs')), unreadable)
      assert.equal((await subject.post('resume')).status, 200)
      await subject.post('stop')
      assert.equal((await subject.get('agents/runs')).status, 200, 'the sidecar has made it right again')
      await subject.post('resume')
    })

    test('an operator that stops leaves nobody who reads', async () => {
      await subject.post('stop')
      assert.equal((await subject.get('agents/runs')).status, 200)
      assert.equal(historiesOf(subject.id).length, 1)
      await operator.stop()
      assert.equal(historiesOf(subject.id).length, 0)
      operator = await startOperator({ runtime, folder: operator.folder })
    })
  })
}

async function firstEvent(answer: Response, isIt: (event: StreamEvent) => boolean): Promise<void> {
  for await (const event of readEvents(answer)) if (isIt(event)) return
}

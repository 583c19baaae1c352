// What users set up in their own home is theirs: it is used, and nothing of a run is left in it.
import assert from 'node:assert/strict'
import { chownSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { test } from 'node:test'
import { startScriptedModel } from '../../scripted-model/server.ts'
import { assertWhole, startAgentSidecar, told } from './agent-client.ts'
import { programs } from './harness.contract.ts'

export interface OwnSetup {
  readonly id: string
  readonly program: string
  /** By their place in the home. They name the model `own-model`, the key `own-key`. */
  readonly files: (url: string) => Readonly<Record<string, string>>
  /** Where its skills stand in the home. */
  readonly skills: string
}

const user = 1000

function place(home: string, file: string, content: string): void {
  let folder = home
  for (const part of path.dirname(file).split('/')) {
    folder = path.join(folder, part)
    if (existsSync(folder)) continue
    mkdirSync(folder)
    chownSync(folder, user, user)
  }
  writeFileSync(path.join(home, file), content)
  chownSync(path.join(home, file), user, user)
}

export function ownSetup({ id, program, files, skills }: OwnSetup): void {
  const isThere = existsSync(path.join(programs, program))
  test(`${id} heeds what users set up, and leaves it as it was`, { skip: isThere ? false : `${program} is not installed` }, async () => {
    await using server = await startScriptedModel()
    const agents = await startAgentSidecar({ env: { ATOLL_HARNESS_PROGRAMS: programs } })
    await using sidecar = agents.sidecar
    const own = { ...files(server.url), [`${skills}/ownskill/SKILL.md`]: '---\nname: ownskill\ndescription: Own.\n---\nOwls eat mice.\n' }
    for (const [file, content] of Object.entries(own)) place(sidecar.home, file, content)
    const { run, events } = await agents.perform({
      harness: id,
      prompt: '[[plan:skill,write,text]][[skillname:ownskill]] the word is quokka',
      skills: { givenskill: { description: 'Given.', content: 'Plovers eat quinces.' } },
      system_prompt: 'Speak of plovers.',
      timeout_ms: 60_000,
    })
    assert.equal(assertWhole(events).outcome, 'completed', JSON.stringify(events.at(-1)))
    assert.deepEqual(
      told(events, 'tool.finished').map(({ status }) => status),
      ['ok', 'ok'],
    )
    assert.ok(server.requests.filter(({ kind }) => kind !== 'models').every(({ model }) => model === 'own-model'))
    assert.ok(server.requests.some(({ credentials }) => credentials.some(({ value }) => value.includes('own-key'))))
    const next = await agents.perform({ harness: id, prompt: '[[plan:recall]] which?', session_id: run.session_id, timeout_ms: 60_000 })
    assert.match(next.run.text ?? '', /quokka/, JSON.stringify(next.run.error))
    for (const [file, content] of Object.entries(own)) assert.equal(readFileSync(path.join(sidecar.home, file), 'utf8'), content)
    assert.equal(existsSync(path.join(sidecar.home, skills, 'givenskill')), false)
  })
}

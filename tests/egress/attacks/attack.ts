// What an attack is, and how one is seen to have failed.
import type { EgressDenial } from '@atoll/protocol'
import { type EgressSubject, parseAnswer, type Said } from '../subject.ts'

/** What the attacker got to see. */
export interface Outcome {
  /** 0: the connection was cut without a word. */
  readonly status: number
  /** From the header. */
  readonly denied: string | undefined
}

export interface Attack {
  readonly name: string
  /** The event that it causes; undefined: none, since it is no request at all, or the name leads nowhere. */
  readonly event: EgressDenial | undefined
  /** One of the statuses that the attacker may see. */
  readonly status: readonly number[]
  readonly run: (subject: EgressSubject, sandbox: string) => Promise<Outcome>
}

export const outcomeOf = ({ status, headers }: Said): Outcome => ({ status, denied: headers['x-atoll-denied'] })

/** A tunnel that is refused. */
export const tunnelTo = (target: string, event: EgressDenial, name = `a tunnel to ${target}`): Attack => ({
  name,
  event,
  status: [403],
  run: async (subject, sandbox) => {
    const { socket, said } = await subject.tunnel(target, sandbox)
    socket.destroy()
    return outcomeOf(said)
  },
})

/** Bytes on a bare connection that are refused. */
export const bytes = (name: string, text: string, event: EgressDenial | undefined, status: readonly number[] = [403]): Attack => ({
  name,
  event,
  status,
  run: async (subject, sandbox) => outcomeOf(await subject.send(text, sandbox)),
})

/** A request to a proxy that is refused. */
export function proxied(address: string, event: EgressDenial, host?: string): Attack {
  const [, authority = 'x'] = /^\w+:\/\/([^/?#]*)/.exec(address) ?? []
  const name = host === undefined ? `a request for ${address}` : `a request for ${address} with the host ${host}`
  return bytes(name, `GET ${address} HTTP/1.1\r\nHost: ${host ?? authority.replace(/^.*@/, '')}\r\n\r\n`, event)
}

export const cutOff: Outcome = { status: 0, denied: undefined }

/** What comes back on a connection that is open already. */
export const outcomeIn = (text: string): Outcome => (text === '' ? cutOff : outcomeOf(parseAnswer(text)))

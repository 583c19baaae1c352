import { z } from 'zod'
import { route } from './route.ts'
import { Environment, objectOrText } from './sandboxes.ts'

const one = { tier: 'write', singleton: true } as const
const path = '/api/sandboxes/{id}/secrets'
const Changed = z.object({ status: z.string(), sandbox_id: z.string(), credentials_available: z.boolean() })

export const secretRoutes = {
  get: route({
    method: 'GET',
    path,
    summary: 'Read the secrets of a sandbox; a read key may not.',
    audit: 'secret.read',
    access: 'write',
    ...one,
    response: z.object({ sandbox_id: z.string(), env_json: z.record(z.string(), z.string()), credentials_available: z.boolean() }),
  }),
  set: route({
    method: 'POST',
    path,
    summary: 'Replace the secrets; they reach the running sandbox at once, for later processes.',
    audit: 'secret.set',
    access: 'write',
    ...one,
    body: z.object({ env_json: objectOrText(Environment.refine((env) => Object.keys(env).length > 0, 'at least one secret')) }),
    response: Changed,
  }),
  wipe: route({ method: 'DELETE', path, summary: 'Remove all secrets.', audit: 'secret.wipe', access: 'write', ...one, response: Changed }),
}

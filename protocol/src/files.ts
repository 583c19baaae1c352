import { z } from 'zod'
import { route } from './route.ts'

/** A path in the sandbox: absolute under /home/agent or /tmp, or relative to the workspace. */
export const filePath = z
  .string()
  .min(1, 'path is required')
  .max(4096)
  .refine((value) => !value.includes('\0'), 'the path holds a NUL byte')

/** A file or directory. `modified_at` is unix milliseconds, `mode` the permission bits as octal text. */
export const FileEntry = z
  .object({
    path: z.string(),
    name: z.string(),
    type: z.enum(['file', 'directory', 'symlink', 'other']),
    size: z.int(),
    mode: z.string(),
    modified_at: z.number(),
    target: z.string().optional(),
  })
  .meta({ id: 'FileEntry' })
export type FileEntry = z.infer<typeof FileEntry>

/** A change under a watched path. `overflow`: changes were lost, so the reader must list again. */
export const WatchEvent = z
  .discriminatedUnion('type', [
    z.object({ type: z.literal('ready') }),
    z.object({ type: z.enum(['created', 'changed', 'removed']), path: z.string() }),
    z.object({ type: z.literal('overflow') }),
  ])
  .meta({ id: 'WatchEvent' })
export type WatchEvent = z.infer<typeof WatchEvent>

const base = '/api/sandboxes/{id}/files'
const one = { access: 'write', tier: 'write', singleton: true } as const
const read = { access: 'read', tier: 'read', singleton: true } as const
const flag = z.enum(['true', 'false']).default('false')

export const fileRoutes = {
  list: route({
    method: 'GET',
    path: base,
    summary: 'List a directory.',
    ...read,
    query: z.object({ path: filePath.default('.') }),
    response: z.object({ path: z.string(), entries: z.array(FileEntry) }),
  }),
  stat: route({
    method: 'GET',
    path: `${base}/stat`,
    summary: 'Read what a path is; links are not followed.',
    ...read,
    query: z.object({ path: filePath }),
    response: FileEntry,
  }),
  download: route({
    method: 'GET',
    path: `${base}/content`,
    summary: 'Read a file, or the part that a Range header names.',
    audit: 'file.read',
    ...read,
    query: z.object({ path: filePath }),
    stream: 'bytes',
  }),
  upload: route({
    method: 'PUT',
    path: `${base}/content`,
    summary: 'Write a file whole: it appears complete or not at all. Missing directories are made.',
    audit: 'file.write',
    ...one,
    query: z.object({
      path: filePath,
      mode: z
        .string()
        .regex(/^[0-7]{3,4}$/, 'mode is octal, such as 644')
        .optional(),
    }),
    upload: true,
    response: FileEntry,
  }),
  mkdir: route({
    method: 'POST',
    path: `${base}/mkdir`,
    summary: 'Make a directory and its parents. Safe to repeat.',
    audit: 'file.write',
    ...one,
    body: z.object({ path: filePath }),
    response: FileEntry,
  }),
  move: route({
    method: 'POST',
    path: `${base}/move`,
    summary: 'Move or rename; an existing target is replaced only with overwrite.',
    audit: 'file.write',
    ...one,
    body: z.object({ from: filePath, to: filePath, overwrite: z.boolean().default(false) }),
    response: FileEntry,
  }),
  remove: route({
    method: 'DELETE',
    path: base,
    summary: 'Remove a file, or with recursive=true a directory. Safe to repeat.',
    audit: 'file.delete',
    ...one,
    query: z.object({ path: filePath, recursive: flag }),
    response: z.object({ deleted: z.boolean() }),
  }),
  watch: route({
    method: 'GET',
    path: `${base}/watch`,
    summary: 'Follow changes under a path; overflow tells when the reader must list again.',
    ...read,
    query: z.object({ path: filePath.default('.'), recursive: flag }),
    response: WatchEvent,
    stream: 'events',
  }),
}

/*
 * Three functions of glibc, so small that the large ones are never linked. A static program pays for all that they
 * stand on: message catalogues, character sets, stdio, the dynamic loader – 130 KB on arm64 – and the agent uses none
 * of it. What they do instead:
 *
 * __dcgettext          returns the message as it is; the agent speaks English.
 * __assert_fail        aborts without its message; it is called when glibc finds itself broken.
 * pthread_getattr_np   fails with ENOSYS; Rust asks for the bounds of the main thread's stack, to word a message about
 *                      its overflow, and takes no for an answer.
 */
	.text
	.globl	__dcgettext
	.type	__dcgettext, %function
	.globl	__assert_fail
	.type	__assert_fail, %function
	.globl	pthread_getattr_np
	.type	pthread_getattr_np, %function

#if defined(__aarch64__)
__dcgettext:
	mov	x0, x1
	ret
__assert_fail:
	b	abort
pthread_getattr_np:
	mov	w0, #38
	ret
#elif defined(__arm__)
	.arm
__dcgettext:
	mov	r0, r1
	bx	lr
__assert_fail:
	b	abort
pthread_getattr_np:
	mov	r0, #38
	bx	lr
#elif defined(__x86_64__)
__dcgettext:
	movq	%rsi, %rax
	ret
__assert_fail:
	jmp	abort
pthread_getattr_np:
	movl	$38, %eax
	ret
#endif

	.section .note.GNU-stack, "", %progbits

/*
 * Parts of glibc, so small that the large ones are never linked. A static program pays for all that they stand on:
 * message catalogues, character sets, printing of numbers, stdio, the dynamic loader – 164 KB on arm64 beyond what the
 * agent uses. What they do instead:
 *
 * __dcgettext          returns the message as it is; the agent speaks English.
 * __assert_fail, __libc_dynarray_at_failure
 *                      abort without their message; they are called when glibc finds itself broken.
 * pthread_getattr_np   fails with ENOSYS; Rust asks for the bounds of the main thread's stack, to word a message about
 *                      its overflow, and takes no for an answer.
 * fprintf              fails; malloc's statistics, which nothing asks for, are all that prints by it.
 * snprintf             writes nothing: glibc words errors by it whose numbers it does not know, and Rust adds the number
 *                      to every error.
 * __wcsmbs_*           abort, and a table of nothing: they are for streams of wide characters, and Rust has neither
 *                      streams of C nor wide characters.
 *
 * Where another glibc needs one of the large files for something else after all, the linker takes these and not the
 * second definition there (-z muldefs): then the agent is larger, and does the same.
 */
	.text
	.globl	__dcgettext
	.type	__dcgettext, %function
	.globl	__assert_fail
	.type	__assert_fail, %function
	.globl	pthread_getattr_np
	.type	pthread_getattr_np, %function
	.globl	fprintf
	.type	fprintf, %function
	.globl	snprintf
	.type	snprintf, %function
	.globl	__snprintf
	.type	__snprintf, %function
	.globl	__libc_dynarray_at_failure
	.type	__libc_dynarray_at_failure, %function
	.globl	__wcsmbs_clone_conv
	.type	__wcsmbs_clone_conv, %function
	.globl	__wcsmbs_named_conv
	.type	__wcsmbs_named_conv, %function
	.globl	__wcsmbs_load_conv
	.type	__wcsmbs_load_conv, %function
	.globl	__wcsmbs_getfct
	.type	__wcsmbs_getfct, %function

#if defined(__aarch64__)
__dcgettext:
	mov	x0, x1
	ret
__assert_fail:
__libc_dynarray_at_failure:
__wcsmbs_clone_conv:
__wcsmbs_named_conv:
__wcsmbs_load_conv:
__wcsmbs_getfct:
	b	abort
pthread_getattr_np:
	mov	w0, #38
	ret
fprintf:
	mov	w0, #-1
	ret
snprintf:
__snprintf:
	cbz	x1, 1f
	strb	wzr, [x0]
1:	mov	w0, #0
	ret
#elif defined(__arm__)
	.syntax unified
	.arm
__dcgettext:
	mov	r0, r1
	bx	lr
__assert_fail:
__libc_dynarray_at_failure:
__wcsmbs_clone_conv:
__wcsmbs_named_conv:
__wcsmbs_load_conv:
__wcsmbs_getfct:
	b	abort
pthread_getattr_np:
	mov	r0, #38
	bx	lr
fprintf:
	mvn	r0, #0
	bx	lr
snprintf:
__snprintf:
	mov	r2, #0
	cmp	r1, #0
	strbne	r2, [r0]
	mov	r0, #0
	bx	lr
#elif defined(__x86_64__)
__dcgettext:
	movq	%rsi, %rax
	ret
__assert_fail:
__libc_dynarray_at_failure:
__wcsmbs_clone_conv:
__wcsmbs_named_conv:
__wcsmbs_load_conv:
__wcsmbs_getfct:
	jmp	abort
pthread_getattr_np:
	movl	$38, %eax
	ret
fprintf:
	movl	$-1, %eax
	ret
snprintf:
__snprintf:
	testq	%rsi, %rsi
	je	1f
	movb	$0, (%rdi)
1:	xorl	%eax, %eax
	ret
#endif

	.globl	__wcsmbs_gconv_fcts_c
	.type	__wcsmbs_gconv_fcts_c, %object
	.size	__wcsmbs_gconv_fcts_c, 64
	.section .rodata.lean, "a", %progbits
	.balign	8
__wcsmbs_gconv_fcts_c:
	.zero	64

	.section .note.GNU-stack, "", %progbits
